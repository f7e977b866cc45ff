"""Evidence that one signal has left its reference: a test martingale over bin counts, valid at any time.

What a flush counted is weighed by two forecasts of it. Denominator: the Dirichlet-multinomial that a reference of m
observations and the counts since the restart imply, exactly. Numerator: the same after a change, a mixture over
directions (tilts) and over when the change began. The ratio has expectation 1 while traffic is independent and comes
from where the reference came from, so that it ever exceeds 100 with a probability of at most 1/100 (Ville 1939; Howard
and Ramdas 2022; on starts Shin, Ramdas and Rinaldo 2023, e-detectors). Dependent traffic counts as n / D observations,
D being its design effect (`dependence`): clips of D repeats count once each, exactly.

All functions take any number of leading axes, one signal being the shape (). Pure: arrays in, arrays out.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.drift import tilts
from service.drift.bins import Bins
from service.drift.gamma_function import log_dirichlet_multinomial

PERIOD_S = 86_400.0  # evidence starts anew each day (UTC)
AT_RESTART = 0.1  # prior probability that the change was there when the period began
MASS = 200.0  # how many observations the numerator trusts its tilt for; it learns the new distribution beside that

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a signal since the restart. T tilts, b bins."""

    counts: Floats  # [..., b], effective observations
    spent: Floats  # [...], prior probability of the starts so far
    log_mixture: Floats  # [..., T], log R: all starts so far, weighted by their prior
    log_best: Floats  # [..., T], log of the best single start, weighted by its prior
    base: Floats  # [..., T, b], counts when that start began
    since: Floats  # [..., T], unix seconds when that start began
    effects: Floats  # [..., e], sums since the restart of whatever the caller wants to know of the time of the change
    effects_base: Floats  # [..., T, e], those sums when that start began

    @classmethod
    def fresh(cls, bins: Bins, shape: tuple[int, ...] = (), effects: int = 0) -> Self:
        """effects: how many sums ride along."""
        b, never = len(bins.alpha), np.full((*shape, tilts.NUMBER), -np.inf)
        base, since = np.zeros((*shape, tilts.NUMBER, b)), np.zeros((*shape, tilts.NUMBER))
        sums, sums_base = np.zeros((*shape, effects)), np.zeros((*shape, tilts.NUMBER, effects))
        return cls(np.zeros((*shape, b)), np.zeros(shape), never, never, base, since, sums, sums_base)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """JSON has no infinity: None stands for it."""
        return cls(**{name: np.array(_with_infinity(value), dtype=np.float64) for name, value in fields.items()})

    def to_json(self) -> dict[str, Any]:
        return {name: _with_none(value.tolist()) for name, value in asdict(self).items()}

    @property
    def log10(self) -> Floats:
        """log10 of the martingale, [...]: 2 is evidence of 100 to 1."""
        unspent = np.log(np.maximum(1 - self.spent, 1e-300))
        result: Floats = np.logaddexp(_log_sum(self.log_mixture + tilts.LOG_WEIGHT), unspent) / np.log(10)
        return result

    @property
    def likeliest_start(self) -> Floats:
        """When the change of the best tilt began, unix seconds, [...]. Means something when evidence is large."""
        best = self.log_best.argmax(axis=-1)[..., None]
        return np.take_along_axis(self.since, best, axis=-1)[..., 0]

    @property
    def since_start(self) -> Floats:
        """The sums that ride along, from the likeliest start to now, [..., e]."""
        best = self.log_best.argmax(axis=-1)[..., None, None]
        return self.effects - np.take_along_axis(self.effects_base, best, axis=-2)[..., 0, :]


def update(  # noqa: PLR0913 -- a flush and when it was
    state: Evidence,
    bins: Bins,
    counts: NDArray[np.number],
    *,
    design_effect: Floats | float,
    at: float,
    share: float,
    effects: Floats | None = None,
) -> Evidence:
    """Evidence after a flush: R = (R + w) * numerator / denominator, for each tilt.

    counts: [..., b], observations of the flush. design_effect: [...], at least 1, known before the flush.
    at: unix seconds when the flush's time began. share: how much of the period it covers, 0..1; the shares of a
    period must not sum to more than 1. effects: [..., e], what the flush adds to the sums that ride along.
    """
    new: Floats = counts.astype(np.float64) / np.maximum(np.asarray(design_effect, dtype=np.float64), 1.0)[..., None]
    start = _start_weight(state, share)
    fresh_start = state.log_best <= np.log(start)[..., None]
    base = np.where(fresh_start[..., None], state.counts[..., None, :], state.base)
    changed = _after_change(bins, base, state.counts)
    log_ratio: Floats = (
        log_dirichlet_multinomial(new[..., None, :], changed)
        - (log_dirichlet_multinomial(new, bins.alpha + state.counts)[..., None])
    )
    return Evidence(
        counts=state.counts + new,
        spent=np.minimum(state.spent + start, 1.0),
        log_mixture=np.logaddexp(state.log_mixture, np.log(start)[..., None]) + log_ratio,
        log_best=np.maximum(state.log_best, np.log(start)[..., None]) + log_ratio,
        base=base,
        since=np.where(fresh_start, at, state.since),
        effects=state.effects if effects is None else state.effects + effects,
        effects_base=np.where(fresh_start[..., None], state.effects[..., None, :], state.effects_base),
    )


def average(log10_values: Floats) -> Floats:
    """log10 of the mean of signals' martingales, itself one: the evidence for a page. [signals, ...] -> [...]."""
    natural = np.logaddexp.reduce(log10_values * np.log(10), axis=0)
    result: Floats = natural / np.log(10) - np.log10(len(log10_values))
    return result


def named(log10_values: Floats, log10_threshold: float) -> NDArray[np.bool_]:
    """Which signals moved, at the threshold's level for all of them together (Bonferroni). [signals]."""
    result: NDArray[np.bool_] = log10_values >= log10_threshold + np.log10(len(log10_values))
    return result


def _start_weight(state: Evidence, share: float) -> Floats:
    """Prior probability that the change began with this flush, [...]. Positive, so that its log is finite."""
    first = np.where(state.spent == 0, AT_RESTART, 0.0)
    return np.maximum(np.minimum(first + (1 - AT_RESTART) * share, 1 - state.spent), 1e-12)


def _after_change(bins: Bins, base: Floats, counts: Floats) -> Floats:
    """Dirichlet parameters [..., T, b] if a change began at `base`: what was known then, tilted, and what came since.

    How sure the tilt is of itself is bounded by MASS: no real change is an exponential tilt of just one of these sizes.
    """
    before = bins.alpha + base
    total = before.sum(axis=-1, keepdims=True)
    tilt = tilts.tilted(before / total, tilts.exponents(bins.normal_scores))
    result: Floats = np.minimum(total, MASS) * tilt + (counts[..., None, :] - base)
    return result


def _log_sum(values: Floats) -> Floats:
    result: Floats = np.logaddexp.reduce(values, axis=-1)
    return result


def _with_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_none(inner) for inner in value]
    return value if np.isfinite(value) else None


def _with_infinity(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_infinity(inner) for inner in value]
    return -np.inf if value is None else value
