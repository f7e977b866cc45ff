import math

import pytest

from models.refinement.by_itself.triggers import Seen, Wanted, reason_to_refine

WANTED = Wanted(labels=200, hours=24, fewest=50)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Seen(200, 0, is_in_drift=False), "200 new labels"),
        (Seen(199, 23, is_in_drift=False), None),
        (Seen(199, 24, is_in_drift=False), "24 hours since the last refinement, and 199 new labels"),
        (Seen(50, math.inf, is_in_drift=False), "no refinement yet, and 50 new labels"),
        (Seen(50, 0, is_in_drift=True), "drift, and 50 new labels"),
        (Seen(49, 1000, is_in_drift=True), None),
        (Seen(0, math.inf, is_in_drift=True), None),
    ],
)
def test_labels_time_or_drift_start_a_refinement_and_too_few_labels_never_do(seen: Seen, reason: str | None) -> None:
    assert reason_to_refine(seen, WANTED) == reason
