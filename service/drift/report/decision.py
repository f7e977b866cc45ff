"""Evidence and effect -> a state, with the reason in plain words.

The state `drift`, which raises the alert, needs both: evidence that traffic changed, and an effect of a stated size on
loss or OOD score. Evidence alone is a `warning`. The evidence is the largest since the restart, so it stays until the
next period. The effect is that of the window, so it may end.
"""

from dataclasses import dataclass

from service.drift.statistics.effect import Interval
from service.schemas.drift import DriftState

EXCEEDANCE = 2.0  # a rate of extreme OOD scores that is so many times the reference's is an effect


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of drift monitoring."""

    threshold: float = 100.0  # from which evidence counts
    loss_rise: float = 0.1  # of the mean loss, relative to the reference, that raises an alert
    window_s: float = 3600.0  # length of the window of reports
    flush_s: float = 5.0  # time between two flushes


@dataclass(frozen=True, slots=True)
class Decision:
    state: DriftState
    reason: str


def decide(  # noqa: PLR0913 -- a state depends on all of these
    log10_peak: float,
    *,
    log10_threshold: float,
    is_known: bool,
    loss_rise: Interval | None,
    wanted_rise: float,
    ood_ratio: Interval | None,
) -> Decision:
    """log10_peak: the largest evidence since the restart. is_known: whether enough is known about dependence.

    loss_rise: change of the mean loss relative to the reference; None if it is not known. ood_ratio: rate of extreme
    OOD scores as a multiple of the reference's rate; None if it is not known.
    """
    if not is_known:
        return Decision("insufficient_data", "it is not known yet how much consecutive images depend on each other")
    if log10_peak < log10_threshold:
        return Decision("stable", "no evidence that traffic left the reference")
    if loss_rise is not None and loss_rise.value >= wanted_rise and loss_rise.low > 0:
        return Decision("drift", f"traffic left the reference, and estimated mean loss is up by {loss_rise.value:.0%}")
    if ood_ratio is not None and ood_ratio.value >= EXCEEDANCE and ood_ratio.low > 1:
        times = f"{ood_ratio.value:.1f} times as many inputs as in the reference"
        return Decision("drift", f"traffic left the reference, and {times} have an extreme OOD score")
    return Decision("warning", "traffic left the reference, but neither loss nor OOD score rose enough for an alert")
