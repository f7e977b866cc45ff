"""How large a change is: the mean loss now, and the share of extreme OOD scores.

An effect decides nothing alone: an alert also needs evidence, which is valid at any time. Intervals over a window are
valid at one time only. They count n observations as n / D, and need enough of them. The correction by audit labels is
valid at any time after a given start. The reference is an estimate too: its error widens each comparison.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        return Interval(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums of predicted losses over a window. They add up over replicas and flushes."""

    n: float = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """The unbiased estimate; 0 for fewer than two losses."""
        return max(self.squares - self.n * self.mean**2, 0.0) / (self.n - 1) if self.n > 1 else 0.0


@dataclass(frozen=True, slots=True)
class AuditSums:
    """Sums over audit labels, of differences d = true - predicted loss with weights w = 1 / probability of the draw."""

    labels: int = 0
    w: float = 0.0
    wd: float = 0.0
    w2: float = 0.0
    w2d: float = 0.0
    w2d2: float = 0.0

    @classmethod
    def of(cls, true_loss: float, predicted_loss: float, probability: float) -> "AuditSums":
        w, d = 1 / probability, true_loss - predicted_loss
        return cls(1, w, w * d, w * w, w * w * d, w * w * d * d)

    def __add__(self, other: "AuditSums") -> "AuditSums":
        return AuditSums(
            self.labels + other.labels, self.w + other.w, self.wd + other.wd,
            self.w2 + other.w2, self.w2d + other.w2d, self.w2d2 + other.w2d2,
        )  # fmt: skip


ENOUGH_LOSSES: Final = 30.0  # effective observations; with fewer, the interval of a mean is too short
ENOUGH_SCORES: Final = 100.0  # for a rate of 5 %; of ten scores, two extreme ones would already be four times as many
ENOUGH_LABELS: Final = 50  # for a correction: the sequence below is asymptotic; from 30 labels on it missed 8 %


def mean_loss(window: LossSums, design_effect: float, audit: AuditSums | None = None) -> Interval | None:
    """Mean loss of the window's traffic, with an interval; None for too few observations.

    It is the mean predicted loss, plus a correction if there are enough audit labels (prediction-powered inference:
    Angelopoulos et al. 2023, Science 382). Then both intervals have half the error each, and add up.
    """
    effective = window.n / design_effect
    if effective < ENOUGH_LOSSES:
        return None
    corrected = audit is not None and audit.labels >= ENOUGH_LABELS
    error = (1 - CONFIDENCE) / (2 if corrected else 1)
    margin = t_quantile(1 - error / 2, effective - 1) * math.sqrt(window.variance / effective)
    proxy = Interval(window.mean, window.mean - margin, window.mean + margin)
    if audit is None or not corrected:
        return proxy
    by = correction(audit, error)
    return Interval(proxy.value + by.value, proxy.low + by.low, proxy.high + by.high)


def t_quantile(level: float, freedom: float) -> float:
    """Quantile of Student's t, by its expansion in 1 / freedom (Fisher and Cornish 1960, Technometrics 2).

    Four digits are right from 29 degrees of freedom on.
    """
    z = NORMAL.inv_cdf(level)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def correction(audit: AuditSums, error: float) -> Interval:
    """Mean of true minus predicted loss over the audited traffic, with an interval that is valid at any time.

    The inverse-probability weighted mean (Hajek), with its linearised variance in an asymptotic confidence sequence.
    """
    mean = audit.wd / audit.w
    spread = max(audit.w2d2 - 2 * mean * audit.w2d + mean**2 * audit.w2, 0.0) / audit.w**2
    margin = math.sqrt(spread * audit.labels) * sequence_margin(audit.labels, error)
    return Interval(mean, mean - margin, mean + margin)


def sequence_margin(n: int, error: float, tightest_at: int = 300) -> float:
    """Half-width of an asymptotic confidence sequence for a mean, in standard deviations, after n observations.

    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Annals of Statistics 52, Theorem 2.2 and Proposition 2.5:
    sqrt(2 (n rho^2 + 1) / (n^2 rho^2) log(sqrt(n rho^2 + 1) / error)). rho makes it tightest at `tightest_at`.
    """
    log_error = -2 * math.log(error)
    rho2 = (log_error + math.log(log_error) + 1) / tightest_at
    grown = n * rho2 + 1
    return math.sqrt(2 * grown / (n * n * rho2) * math.log(math.sqrt(grown) / error))


def rise(loss: Interval, reference_mean: float, reference_sd: float, reference_n: int) -> Interval:
    """The change of the loss relative to the reference's mean: .1 is a rise of a tenth.

    The reference is an estimate too. Its standard error is independent, so it widens the interval in quadrature.
    """
    own = NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * reference_sd / math.sqrt(reference_n)
    change = loss.value - reference_mean
    low = change - math.hypot(loss.value - loss.low, own)
    high = change + math.hypot(loss.high - loss.value, own)
    return Interval(change, low, high).scaled(1 / reference_mean)


def exceedance(count: float, n: float, design_effect: float) -> Interval | None:
    """Share of the window's OOD scores above the reference's 95 % point: Wilson's interval on n / D observations.

    None for too few observations.
    """
    effective = n / design_effect
    if effective < ENOUGH_SCORES:
        return None
    share = count / n
    z2 = NORMAL.inv_cdf((1 + CONFIDENCE) / 2) ** 2
    centre = (share + z2 / (2 * effective)) / (1 + z2 / effective)
    margin = math.sqrt(z2 / effective * (share * (1 - share) + z2 / (4 * effective))) / (1 + z2 / effective)
    return Interval(share, max(centre - margin, 0.0), min(centre + margin, 1.0))


def exceedance_ratio(rate: Interval, reference: float, size: int) -> Interval:
    """The rate, as a multiple of the reference's rate.

    With r of m reference values above the point, the chance of a new value is Beta(r, m + 1 - r). Its mean is
    `reference` = r / (m + 1). Its spread widens the log of the interval on both sides, in quadrature.
    """
    own = NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt((1 - reference) / (reference * (size + 2)))
    if rate.value <= 0:
        return Interval(0.0, 0.0, rate.high / reference * math.exp(own))
    low = math.hypot(math.log(rate.value / rate.low), own) if rate.low > 0 else math.inf
    high = math.hypot(math.log(rate.high / rate.value), own)
    ratio = rate.value / reference
    return Interval(ratio, ratio * math.exp(-low), ratio * math.exp(high))
