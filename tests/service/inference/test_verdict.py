import pytest

from models.contract.manifest import OperatingPoint
from service.inference.verdict import give_verdict

POINTS = {
    "budget": OperatingPoint(
        guarantee="made for tests",
        kind="flag_budget",
        level=0.1,
        calibration_size=10,
        score_threshold=1.0,
        ood_threshold=5.0,
    )
}


@pytest.mark.parametrize(
    ("score", "ood_score", "reasons"),
    [
        (1.0, 5.0, ()),  # at the threshold is not above it: this is what the calibration counts
        (1.1, 0.0, ("predicted_loss",)),
        (0.0, 5.1, ("ood_score",)),
        (9.0, 9.0, ("predicted_loss", "ood_score")),
    ],
)
def test_a_verdict_is_lossy_when_either_raw_score_exceeds_its_threshold(
    score: float, ood_score: float, reasons: tuple[str, ...]
) -> None:
    verdict = give_verdict(score, ood_score, POINTS, "budget")
    assert verdict.reasons == reasons
    assert verdict.lossy is bool(reasons)
    assert verdict.operating_point == "budget"
