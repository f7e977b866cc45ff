"""The state drift needs evidence and an effect; one of them is not enough."""

import pytest

from service.drift.report.decision import Decision, decide
from service.drift.statistics.effect import Interval

NONE, SMALL, LARGE = Interval(0.0, -0.1, 0.1), Interval(0.05, 0.01, 0.09), Interval(0.3, 0.2, 0.4)
UNSURE, TWICE, ONCE = Interval(0.3, -0.1, 0.7), Interval(2.5, 1.4, 4.0), Interval(1.0, 0.8, 1.3)


def decided(peak: float, loss: Interval | None, ood: Interval | None = None, *, is_known: bool = True) -> Decision:
    return decide(peak, log10_threshold=2.0, is_known=is_known, loss_rise=loss, wanted_rise=0.1, ood_ratio=ood)


@pytest.mark.parametrize(
    ("peak", "loss", "ood", "state"),
    [
        (1.9, LARGE, TWICE, "stable"),
        (2.0, NONE, ONCE, "warning"),
        (9.0, SMALL, ONCE, "warning"),
        (9.0, UNSURE, ONCE, "warning"),
        (9.0, LARGE, ONCE, "drift"),
        (9.0, LARGE, None, "drift"),
        (9.0, NONE, TWICE, "drift"),
        (9.0, None, TWICE, "drift"),
        (9.0, None, Interval(2.5, 0.9, 6.0), "warning"),
        (9.0, None, None, "warning"),
    ],
)
def test_a_state_follows_from_evidence_and_effect(
    peak: float, loss: Interval | None, ood: Interval | None, state: str
) -> None:
    assert decided(peak, loss, ood).state == state


def test_the_state_is_insufficient_data_until_dependence_is_known() -> None:
    assert decided(9.0, LARGE, TWICE, is_known=False).state == "insufficient_data"


def test_reasons_state_the_size_of_the_effect() -> None:
    assert "up by 30%" in decided(9.0, LARGE).reason
    assert "2.5 times as many" in decided(9.0, NONE, TWICE).reason
