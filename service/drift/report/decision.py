"""From evidence and effect to a state, with the reason in plain words.

A page (`drift`) needs both: evidence that the world moved, and a move of a stated size in what matters. Evidence alone
is a `warning`. Evidence is the largest since the restart: what was once unlikely enough stays so until the next period;
an effect is of the window now, and may end.
"""

from dataclasses import dataclass

from service.drift.statistics.effect import Interval
from service.schemas.drift import DriftState

EXCEEDANCE = 2.0  # times the reference's rate of extreme OOD scores


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say of drift."""

    threshold: float = 100.0  # evidence that counts
    loss_rise: float = 0.1  # of the mean loss, relative to the reference, for a page
    window_s: float = 3600.0  # that reports speak of
    flush_s: float = 5.0  # between two flushes


@dataclass(frozen=True, slots=True)
class Decision:
    state: DriftState
    reason: str


def decide(  # noqa: PLR0913 -- one for each thing a state rests on
    log10_peak: float,
    *,
    log10_threshold: float,
    is_known: bool,
    loss_rise: Interval | None,
    wanted_rise: float,
    ood_ratio: Interval | None,
) -> Decision:
    """log10_peak: largest evidence since the restart. is_known: whether dependence is known well enough to judge.

    loss_rise: change of the mean loss relative to the reference, None if it cannot be told. ood_ratio: rate of extreme
    OOD scores as a multiple of the reference's.
    """
    if not is_known:
        return Decision("insufficient_data", "how much images in a row depend on each other is not known yet")
    if log10_peak < log10_threshold:
        return Decision("stable", "no evidence that traffic left the reference")
    if loss_rise is not None and loss_rise.value >= wanted_rise and loss_rise.low > 0:
        return Decision("drift", f"traffic left the reference, and estimated mean loss is up by {loss_rise.value:.0%}")
    if ood_ratio is not None and ood_ratio.value >= EXCEEDANCE and ood_ratio.low > 1:
        times = f"{ood_ratio.value:.1f} times as many"
        return Decision("drift", f"traffic left the reference, and {times} inputs as there lie far out (OOD score)")
    return Decision("warning", "traffic left the reference, but neither loss nor OOD score rose enough for a page")
