"""References and traffic of many deployments at once, in steps that are like the flushes of replicas.

Signals are standard normal. The score is the log of the predicted loss, in standard deviations. `Counted` draws counts,
for traffic that is independent given the time of day. `Valued` draws every value, for dependent traffic.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks.drift.sequences import Sequence
from models.contract.manifest import OrderStatistics
from service.drift.statistics import dependence
from service.drift.statistics.bins import Bins

M = 400  # observations of a reference: as in the smaller of the two shipped ones
LOG_SD = 0.5  # of predicted losses; the shipped digits have .51, pose has .33
EFFECTS = 4  # images, sum of their losses, sum of the squares, number with an extreme OOD score
DAY_S = 86_400

Floats = NDArray[np.float64]
Shift = Callable[[float], Floats]  # seconds -> shift of the signals at that time, [signals], in standard deviations


@dataclass(frozen=True, eq=False)
class References:
    """References of n deployments. Their bins are at the same ranks, so only the edges differ."""

    bins: Bins
    edges: Floats  # [n, signals, b - 1]
    scores: Floats  # [n, m], sorted
    loss_mean: Floats  # [n]
    loss_sd: Floats  # [n]

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, shift: Shift) -> Self:
        """Draws them from all hours of a day; the hour shifts the distribution."""
        times = rng.uniform(0, DAY_S, (n, M))
        added = np.array([shift(at) for at in times.ravel()]).reshape(n, M, -1).swapaxes(1, 2)
        values = np.sort(rng.standard_normal(added.shape) + added, axis=-1)
        ranks = tuple(range(1, M + 1))
        bins = Bins.of(OrderStatistics(size=M, ranks=ranks, values=tuple(values[0, 0].tolist())))
        inner = np.cumsum(bins.alpha)[:-1].astype(int) - 1
        losses = np.exp(LOG_SD * values[:, 0])
        return cls(bins, values[:, :, inner], values[:, 0], losses.mean(axis=1), losses.std(axis=1, ddof=1))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    counts: Floats  # [n, signals, b]
    statistics: Floats  # [n, signals, dependence.SIZE]
    effects: Floats  # [n, EFFECTS]
    scores: Floats | None = None  # [n, images], if values were drawn


class Traffic(Protocol):
    references: References

    def step(self, at: float, lasts_s: float) -> Step:
        """The traffic of the seconds from `at` on."""


@dataclass(eq=False)
class Counted:
    references: References
    rng: np.random.Generator
    per_s: float
    shift: Shift
    _waiting: float = field(default=0.0, init=False)  # observations that are not yet in a block

    def step(self, at: float, lasts_s: float) -> Step:
        n = round(self.per_s * lasts_s)
        shift = self.shift(at + lasts_s / 2)
        edges = self.references.edges - shift[:, None]
        below = ndtr(edges)
        probabilities = np.diff(below, prepend=0.0, append=1.0)
        counts = self.rng.multinomial(n, probabilities).astype(np.float64)
        effects = _effects(counts, self.references.bins, *self._losses(edges[:, 0], shift[0], counts[:, 0]))
        return Step(counts, self._statistics(n, probabilities), effects)

    def _losses(self, edges: Floats, shift: float, counts: Floats) -> tuple[Floats, Floats]:
        """Sums of losses and of their squares, [n] each, given the counts of scores [n, b], by the normal law."""
        shares = np.diff(ndtr(edges), prepend=0.0, append=1.0)
        first, second = (
            np.exp(order * LOG_SD * shift + (order * LOG_SD) ** 2 / 2)
            * np.diff(ndtr(edges - order * LOG_SD), prepend=0.0, append=1.0)
            / shares
            for order in (1, 2)
        )
        noise = self.rng.standard_normal(len(counts))
        total = (counts * first).sum(axis=1) + noise * np.sqrt((counts * (second - first**2)).sum(axis=1).clip(0))
        return total, (counts * second).sum(axis=1)

    def _statistics(self, n: int, probabilities: Floats) -> Floats:
        """Statistics of independent observations: squares of batches are drawn from the chi-squared law."""
        z = self.references.bins.normal_scores
        variance = probabilities @ z**2 - (probabilities @ z) ** 2
        self._waiting += n
        blocks, self._waiting = divmod(self._waiting, dependence.BLOCK)
        made = np.zeros((*variance.shape, dependence.SIZE))
        if blocks:
            pairs = blocks * (dependence.BLOCK // 2) / dependence.BATCHES
            made[..., 0] = blocks
            made[..., 1:] = variance[..., None] * self.rng.chisquare(pairs, (*variance.shape, len(pairs)))
        return made


@dataclass(eq=False)
class Valued:
    references: References
    sequence: Sequence
    per_s: float  # images per second that count; thinned ones are not drawn
    shift: Shift
    _waiting: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._waiting = np.empty((*self.references.edges.shape[:2], 0))

    def step(self, at: float, lasts_s: float) -> Step:
        bins, edges = self.references.bins, self.references.edges
        values = self.sequence.draw(round(self.per_s * lasts_s)) + self.shift(at + lasts_s / 2)[:, None]
        index = np.zeros(values.shape, dtype=np.intp)
        for edge in np.moveaxis(edges, -1, 0):
            index += values >= edge[..., None]
        b, rows = len(bins.alpha), edges.shape[0] * edges.shape[1]
        flat = (index.reshape(rows, -1) + b * np.arange(rows)[:, None]).ravel()
        counts = np.bincount(flat, minlength=rows * b).reshape(*edges.shape[:2], b).astype(np.float64)
        losses = np.exp(LOG_SD * values[:, 0])
        effects = _effects(counts, bins, losses.sum(axis=1), (losses**2).sum(axis=1))
        return Step(counts, self._statistics(bins.normal_scores[index]), effects, values[:, 0])

    def _statistics(self, scores: Floats) -> Floats:
        waiting = np.concatenate([self._waiting, scores], axis=-1)
        whole = waiting.shape[-1] // dependence.BLOCK * dependence.BLOCK
        self._waiting = waiting[..., whole:]
        return dependence.statistics(waiting[..., :whole].reshape(*waiting.shape[:2], -1, dependence.BLOCK))


def _effects(counts: Floats, bins: Bins, losses: Floats, squares: Floats) -> Floats:
    """Effects [n, EFFECTS], from the counts [n, signals, b] and the sums of losses [n]."""
    images = counts[:, 0].sum(axis=-1)
    extreme = counts[:, 1, bins.extreme].sum(axis=-1)
    return np.stack([images, losses, squares, extreme], axis=-1)
