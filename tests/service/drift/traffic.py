"""Sums of traffic whose signals are drawn evenly from the reference, or from elsewhere."""

import numpy as np

from service.drift.layout import Floats, Layout
from service.drift.ledger import LedgerSums
from service.drift.tally import Tally
from service.inference.outcome import Forecast

CANVAS = np.zeros((8, 8, 1), np.uint8)


def forecasts(n: int, rng: np.random.Generator, shift: float = 0.0) -> list[Forecast]:
    """Of which score and predicted loss are even over 0 to 1, plus shift, and the OOD score is even."""
    points, embedding = np.zeros((2, 2), np.float32), np.array([0.0, 0.5, 0.0, 0.0], np.float32)
    rows = zip((rng.random(n) + shift).tolist(), rng.random(n).tolist(), strict=True)
    return [Forecast(points, score, score, ood, embedding) for score, ood in rows]


def feed(tally: Tally, n: int, rng: np.random.Generator, shift: float = 0.0) -> None:
    for forecast in forecasts(n, rng, shift):
        tally.observe(forecast, CANVAS, (8, 8), None)


class Ledgerless:
    """What a ledger would say of the traffic that one replica flushes, at times of one's own."""

    def __init__(self, layout: Layout, seed: int = 0) -> None:
        self.layout, self.rng = layout, np.random.default_rng(seed)
        self.tally = Tally(layout, 0.0, seed=seed)
        self.totals: Floats = layout.empty()
        self.born = "1000"

    def sums(self, now_s: float, n: int = 0, shift: float = 0.0, state: bytes = b"") -> LedgerSums:
        """After n more images."""
        feed(self.tally, n, self.rng, shift)
        new = self.tally.take()
        if new is not None:
            self.totals = self.totals + new
        return LedgerSums(now_s, self.born, self.totals, self.totals, state, 1.0)
