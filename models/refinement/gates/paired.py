"""How much better or worse one of two models is on the same images, with an interval: arrays in, figures out.

A figure is a weighted mean of contributions of rows. For the mean loss a contribution is the loss itself. For the
worst decile it is the influence of the row on the mean of the largest tenth (Rockafellar & Uryasev 2000): these have
exactly that mean, so both figures are compared by the same test. Rows of one group are not independent: only the sums
of groups count. The relative change r solves mean(candidate - (1 + r) live) = 0, and an end of its interval is where
the one-sided bound of that mean is 0 (Fieller 1954).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Array = NDArray[np.float64]

TAIL = 0.1  # the worst decile
FEWEST_GROUPS = 100  # with fewer, rare large losses are too often all missed: see docs/decisions/0023-gates.md
POWER = 0.8  # with which the needed number of labels shows the observed change
FARTHEST = 10.0  # relative changes are looked for up to here


@dataclass(frozen=True, slots=True)
class Pairs:
    """Losses of two models on the same rows."""

    live: Array  # [n]
    candidate: Array  # [n]
    weights: Array  # [n] positive: how many images of traffic a row stands for
    groups: NDArray[np.int64]  # [n] rows of one group are not independent

    @classmethod
    def of(
        cls, live: ArrayLike, candidate: ArrayLike, groups: ArrayLike | None = None, weights: ArrayLike | None = None
    ) -> "Pairs":
        """Without groups each row is its own, without weights all are alike. Groups may have names of any kind."""
        one, other = np.asarray(live, np.float64), np.asarray(candidate, np.float64)
        names = np.arange(one.size) if groups is None else np.asarray(groups)
        numbers = np.unique(names, return_inverse=True)[1].astype(np.int64)
        return cls(one, other, np.ones(one.size) if weights is None else np.asarray(weights, np.float64), numbers)

    def __len__(self) -> int:
        return self.live.size

    @property
    def group_count(self) -> int:
        return np.unique(self.groups).size

    def tails(self) -> "Pairs":
        """The same rows with their contributions to the mean of the largest tenth of each model's losses."""
        live, candidate = (tail_contributions(losses, self.weights) for losses in (self.live, self.candidate))
        return Pairs(live, candidate, self.weights, self.groups)

    def rows(self, chosen: NDArray[np.bool_]) -> "Pairs":
        return Pairs(self.live[chosen], self.candidate[chosen], self.weights[chosen], self.groups[chosen])


@dataclass(frozen=True, slots=True)
class Change:
    """The relative change of a figure; `low` and `high` are one-sided bounds, each missed with probability alpha."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean with what its bounds need."""

    value: float
    error: float  # its standard error
    skewness: float  # of the groups' parts
    groups: int

    def upper(self, alpha: float) -> float:
        """One-sided bound: the farther of Student's and Hall's (1992), which corrects for skewness."""
        if self.groups < 2:  # noqa: PLR2004 - one group has no spread
            return math.inf
        quantile = float(stats.t.isf(alpha, self.groups - 1))
        return self.value + self.error * max(quantile, -_hall(-quantile, self.skewness / math.sqrt(self.groups)))

    def p_value(self) -> float:
        """Of the hypothesis that the true mean is 0 or less, by the lower bound that would just exclude it."""
        if self.groups < 2:  # noqa: PLR2004 - as above
            return 1.0
        mirrored = Mean(-self.value, self.error, -self.skewness, self.groups)
        if mirrored.upper(0.5) >= 0:
            return 1.0
        smallest = 1e-12
        if mirrored.upper(smallest) < 0:
            return smallest
        return float(optimize.brentq(mirrored.upper, smallest, 0.5, xtol=1e-13))


def weighted_mean(values: Array, weights: Array, groups: NDArray[np.int64]) -> Mean:
    """values, weights: [n], at least one row; groups: [n] -> their mean, its error over groups and its skewness."""
    total = float(weights.sum())
    value = float(weights @ values) / total
    parts = np.bincount(groups, weights * (values - value))[np.unique(groups)] / total
    count = parts.size
    spread = float(parts @ parts)
    floor = (1e-12 * float(np.abs(values).max())) ** 2  # equal values differ by rounding alone
    if count < 2 or spread <= floor / count:  # noqa: PLR2004 - one group has no spread
        return Mean(value, 0.0, 0.0, count)
    skewness = math.sqrt(count) * float(((parts / math.sqrt(spread)) ** 3).sum())  # spread**1.5 could underflow
    return Mean(value, math.sqrt(spread * count / (count - 1)), skewness, count)


def excess(pairs: Pairs, margin: float) -> Mean:
    """The mean of candidate - (1 + margin) live: above 0 the candidate is worse by more than the margin."""
    return weighted_mean(pairs.candidate - (1 + margin) * pairs.live, pairs.weights, pairs.groups)


def relative_change(pairs: Pairs, alpha: float) -> Change:
    """The mean of the candidate over that of live, minus 1. Infinite ends: the labels do not bound it."""
    live, candidate = (float(np.average(side, weights=pairs.weights)) for side in (pairs.live, pairs.candidate))
    if live <= 1e-12 * max(candidate, 1e-300):  # a live model without any loss: no share of it can be named
        estimate = 0.0 if candidate <= 0 else math.inf
        return Change(estimate, estimate, estimate)
    estimate = candidate / live - 1
    swapped = Pairs(-pairs.live, -pairs.candidate, pairs.weights, pairs.groups)
    return Change(
        estimate,
        _end(lambda r: excess(swapped, r).upper(alpha), estimate, -1.0),
        _end(lambda r: excess(pairs, r).upper(alpha), estimate, FARTHEST),
    )


def more_groups(pairs: Pairs, margin: float, alpha: float) -> float:
    """How many more groups would show, with `POWER`, that the change is below the margin, if it is as observed.

    Infinite when the observed change is not below the margin.
    """
    found = excess(pairs, margin)
    if found.value >= 0:
        return math.inf
    quantiles = float(stats.norm.isf(alpha) + stats.norm.isf(1 - POWER))
    wanted = (quantiles * found.error / found.value) ** 2 * found.groups
    return max(0.0, wanted - found.groups)


def tail_contributions(losses: Array, weights: Array, share: float = TAIL) -> Array:
    """losses, weights: [n] -> [n], whose weighted mean is the mean of the largest `share` of the losses."""
    order = np.argsort(-losses, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    at = min(int(np.searchsorted(reached, share - 1e-12)), losses.size - 1)
    quantile = losses[order[at]]
    return np.asarray(quantile + np.maximum(losses - quantile, 0) / share, np.float64)


def _hall(quantile: float, skew: float) -> float:
    """Hall's cubic transformation, inverted. skew: the skewness over the root of the number of groups."""
    if abs(skew) < 1e-6:  # noqa: PLR2004 - its limit
        return quantile
    return float(3 / skew * (np.cbrt(1 + skew * (quantile - skew / 6)) - 1))


def _end(bound: Callable[[float], float], estimate: float, farthest: float) -> float:
    """Where the bound crosses 0 between the estimate and `farthest`."""
    if bound(estimate) <= 0:  # without an error it is 0, but for rounding
        return estimate
    if bound(farthest) > 0:
        return math.copysign(math.inf, farthest)
    return float(optimize.brentq(bound, estimate, farthest, xtol=1e-7))
