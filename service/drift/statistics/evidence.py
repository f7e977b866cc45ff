"""Evidence that one signal has left its reference: a test martingale over bin counts, valid at any time.

Two distributions forecast the counts of a flush. Denominator: the Dirichlet-multinomial that a reference of m
observations and the counts since the restart imply, exactly. Numerator: the same after a change, as a mixture over
alternatives (tilts) and over the time at which the change began. Their ratio has expectation 1 while traffic is
independent and has the reference's distribution. So the probability that it ever exceeds 100 is at most 1/100 (Ville
1939; Howard and Ramdas 2022; on starts Shin, Ramdas and Rinaldo 2023, e-detectors). Dependent traffic counts as n / D
observations, where D is its design effect (`dependence`): a clip of D repeats counts once, exactly.

The alternatives are exponential tilts of the bin probabilities. Location tilts exp(theta z), where z are the normal
scores of the bins: for normal data this is a shift by theta standard deviations. Spread tilts
exp(kappa (z^2 - 1) / 2): the variance becomes 1 / (1 - kappa).

Functions take any number of leading axes; one signal has the shape (). Pure: arrays in, arrays out.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics.bins import Bins
from service.drift.statistics.dirichlet import log_dirichlet_multinomial

PERIOD_S = 86_400.0  # evidence restarts each day, at 0:00 UTC
AT_RESTART = 0.1  # prior probability that the change began before the period
LIFE = 2_000.0  # effective observations, after which a start without evidence of LOG_CONVINCING is given up
LOG_CONVINCING = float(np.log(100.0))
LOCATIONS = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)  # tilts of location, in standard deviations
SPREADS = (-1.0, 0.5)  # tilts of spread: half the variance, twice the variance
TILTS = len(LOCATIONS) + len(SPREADS)
LOG_TILT_WEIGHT = -float(np.log(TILTS))  # equal for all
MASS = 1_000.0  # weight of the tilt in the numerator, in observations; the rest it learns from the new traffic

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence of a signal since the restart, with what it is computed from. T tilts, b bins."""

    counts: Floats  # [..., b], effective observations
    spent: Floats  # [...], prior probability of all starts so far
    log_mixture: Floats  # [..., T], log R of all starts so far, weighted by their prior
    log_best: Floats  # [..., T], log R of the best single start, weighted by its prior
    base: Floats  # [..., T, b], counts when the best start began; the numerator learns later ones

    @classmethod
    def fresh(cls, bins: Bins, shape: tuple[int, ...] = ()) -> Self:
        b, never = len(bins.alpha), np.full((*shape, TILTS), -np.inf)
        return cls(np.zeros((*shape, b)), np.zeros(shape), never, never, np.zeros((*shape, TILTS, b)))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """JSON has no infinity, so None stands for it."""
        return cls(**{name: np.array(_with_infinity(value), dtype=np.float64) for name, value in fields.items()})

    def to_json(self) -> dict[str, Any]:
        return {name: _with_none(value.tolist()) for name, value in asdict(self).items()}

    @property
    def log10(self) -> Floats:
        """log10 of the martingale, [...]: 2 is evidence of 100 to 1."""
        unspent = np.log(np.maximum(1 - self.spent, 1e-300))
        result: Floats = np.logaddexp(_log_sum(self.log_mixture + LOG_TILT_WEIGHT), unspent) / np.log(10)
        return result


def update(
    state: Evidence, bins: Bins, counts: NDArray[np.number], *, design_effect: Floats | float, share: float
) -> Evidence:
    """Evidence after a flush: R = (R + w) * numerator / denominator, for each tilt.

    counts: [..., b], observations of the flush. design_effect: [...], at least 1, known before the flush.
    share: how much of the period the flush covers, 0..1; the shares of a period must not sum to more than 1.
    """
    new: Floats = counts.astype(np.float64) / np.maximum(np.asarray(design_effect, dtype=np.float64), 1.0)[..., None]
    start = np.log(_start_weight(state, share))[..., None]
    is_restarted = _is_restarted(state, start)
    base = np.where(is_restarted[..., None], state.counts[..., None, :], state.base)
    log_ratio: Floats = (
        log_dirichlet_multinomial(new[..., None, :], _after_change(bins, base, state.counts))
        - log_dirichlet_multinomial(new, bins.alpha + state.counts)[..., None]
    )
    return Evidence(
        counts=state.counts + new,
        spent=np.minimum(state.spent + np.exp(start[..., 0]), 1.0),
        log_mixture=np.logaddexp(state.log_mixture, start) + log_ratio,
        log_best=np.where(is_restarted, start, state.log_best) + log_ratio,
        base=base,
    )


def tilt_exponents(normal_scores: Floats) -> Floats:
    """The addition of each tilt to the log probability of each bin, before normalising. [b] -> [tilts, b]."""
    location = np.multiply.outer(np.array(LOCATIONS), normal_scores)
    spread = np.multiply.outer(np.array(SPREADS), (normal_scores**2 - 1) / 2)
    return np.concatenate([location, spread])


def tilted(shares: Floats, exponent: Floats) -> Floats:
    """Probabilities [..., tilts, b] that are proportional to shares * exp(exponent).

    shares: [..., tilts, b], summing to 1. exponent: [tilts, b].
    """
    weights: Floats = shares * np.exp(exponent)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def average(log10_values: Floats) -> Floats:
    """log10 of the mean of signals' martingales, itself a martingale: the evidence of all signals.

    [signals, ...] -> [...].
    """
    natural = np.logaddexp.reduce(log10_values * np.log(10), axis=0)
    result: Floats = natural / np.log(10) - np.log10(len(log10_values))
    return result


def named(log10_values: Floats, log10_threshold: float) -> NDArray[np.bool_]:
    """Which signals moved, with the threshold's level for all of them together (Bonferroni). [signals]."""
    result: NDArray[np.bool_] = log10_values >= log10_threshold + np.log10(len(log10_values))
    return result


def _start_weight(state: Evidence, share: float) -> Floats:
    """Prior probability that the change began with this flush, [...]. Positive, so that its log is finite."""
    first = np.where(state.spent == 0, AT_RESTART, 0.0)
    return np.maximum(np.minimum(first + (1 - AT_RESTART) * share, 1 - state.spent), 1e-12)


def _is_restarted(state: Evidence, log_start: Floats) -> NDArray[np.bool_]:
    """Whether a change that begins now is likelier than the tilt's best start, [..., T].

    Also true where the best start is old and unconvincing. Traffic never has exactly the reference's distribution: a
    tilt that took a small difference for the change would learn it, and miss a large change later.
    """
    is_old = (state.counts[..., None, :] - state.base).sum(axis=-1) >= LIFE
    result: NDArray[np.bool_] = (state.log_best <= log_start) | (is_old & (state.log_best < LOG_CONVINCING))
    return result


def _after_change(bins: Bins, base: Floats, counts: Floats) -> Floats:
    """Dirichlet parameters [..., T, b] for a change that began at `base`: tilted earlier counts, plus later counts.

    MASS limits the weight of the tilt, because no real change is exactly an exponential tilt of one of these sizes.
    """
    before = bins.alpha + base
    total = before.sum(axis=-1, keepdims=True)
    tilt = tilted(before / total, tilt_exponents(bins.normal_scores))
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
