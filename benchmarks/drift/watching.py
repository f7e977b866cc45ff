"""The shipped detector over many deployments: evidence, start, effect and decision, put together as by the service."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift.worlds import EFFECTS, References, Step
from service.drift.report import decision
from service.drift.report.decision import Terms
from service.drift.statistics import effect
from service.drift.statistics.detector import Detector, Flush
from service.drift.statistics.effect import Interval, LossSums
from service.drift.statistics.evidence import PERIOD_S
from service.drift.statistics.onset import History, likeliest_start

TERMS = Terms()  # the service's defaults

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Watching:
    """Two alarms. `warns`: evidence has passed the threshold since the restart. `alerts`: there was an effect too.

    Both stay until the restart: an alert counts once a day, however often its effect comes and goes.
    """

    references: References
    detector: Detector = field(init=False)
    warns: NDArray[np.bool_] = field(init=False)  # [n]
    alerts: NDArray[np.bool_] = field(init=False)  # [n]

    def __post_init__(self) -> None:
        n, signals = self.references.edges.shape[:2]
        self._bins = dict.fromkeys([str(i) for i in range(signals)], self.references.bins)
        self.detector = Detector.fresh(self._bins, (n,))
        self.warns, self.alerts = np.zeros(n, bool), np.zeros(n, bool)
        self._shape = (n, signals * len(self.references.bins.alpha) + EFFECTS)
        self._window: deque[tuple[float, Floats]] = deque()  # (until, what came)
        self._history, self._seen = self._nothing()

    def update(self, step: Step, began_s: float, now_s: float) -> None:
        flush = {name: Flush(step.counts[:, i], step.statistics[:, i]) for i, name in enumerate(self._bins)}
        if now_s // PERIOD_S != self.detector.updated_s // PERIOD_S:
            self._history, self._seen = self._nothing()
        self.detector = self.detector.update(self._bins, flush, now_s)
        new = np.concatenate([step.counts.reshape(len(step.counts), -1), step.effects], axis=1)
        self._history = self._history.add(began_s, self._seen.ravel())
        self._seen = self._seen + new
        self._window.append((now_s, step.effects))
        while self._window[0][0] <= now_s - TERMS.window_s:
            self._window.popleft()
        self.warns = self.detector.is_known & (self.detector.log10_peak >= np.log10(TERMS.threshold))
        self.alerts &= self.warns
        if (self.warns & ~self.alerts).any():
            self._decide()

    def _nothing(self) -> tuple[History, Floats]:
        return History.fresh(self._shape[0] * self._shape[1]), np.zeros(self._shape)

    def _decide(self) -> None:
        in_window = np.sum([effects for _, effects in self._window], axis=0)
        history = self._history.sums.reshape(-1, *self._shape)
        signals = list(self.detector.signals.values())
        design = np.stack([one.design_effect(self.references.bins, 1.0) for one in signals])
        lead = np.stack([one.evidence.log10 for one in signals]).argmax(axis=0)
        for i in np.flatnonzero(self.warns & ~self.alerts).tolist():
            since = self._since_start(i, int(lead[i]), history[:, i], float(design[lead[i], i]))
            sums = since if since[0] < in_window[i, 0] else in_window[i]
            self.alerts[i] = self._is_alert(i, sums, design[:2, i].tolist())

    def _since_start(self, i: int, lead: int, before: Floats, design_effect: float) -> Floats:
        """Sums of the effect since the change of the leading signal likeliest began. before: [moments, sums]."""
        b = len(self.references.bins.alpha)
        of = slice(lead * b, lead * b + b)
        start = likeliest_start(self.references.bins, before[:, of], self._seen[i, of], design_effect)
        since: Floats = self._seen[i, -EFFECTS:] - before[start, -EFFECTS:]
        return since

    def _is_alert(self, i: int, sums: Floats, design_effects: list[float]) -> bool:
        decided = decision.decide(
            float(self.detector.log10_peak[i]),
            log10_threshold=float(np.log10(TERMS.threshold)),
            is_known=True,
            loss_rise=self._rise(i, sums, design_effects[0]),
            wanted_rise=TERMS.loss_rise,
            ood_ratio=self._ratio(sums, design_effects[1]),
        )
        return decided.state == "drift"

    def _rise(self, i: int, sums: Floats, design_effect: float) -> Interval | None:
        loss = effect.mean_loss(LossSums(*sums[:3].tolist()), design_effect)
        mean, sd = float(self.references.loss_mean[i]), float(self.references.loss_sd[i])
        return effect.rise(loss, mean, sd, self.references.bins.size) if loss else None

    def _ratio(self, sums: Floats, design_effect: float) -> Interval | None:
        bins = self.references.bins
        rate = effect.exceedance(float(sums[3]), float(sums[0]), design_effect)
        return effect.exceedance_ratio(rate, float(bins.shares[bins.extreme].sum()), bins.size) if rate else None
