import numpy as np
import pytest
from pydantic import ValidationError

from models.contract.loss_definition import KeypointLoss, TorsoScale, VectorLoss

NAN = float("nan")
SCALE = TorsoScale(
    diagonals=((0, 1),), limbs=((1, 2), (2, 3)), ratios=(2.0, None), extent_ratio=0.5, smallest=1.0
)  # of four points
POSE = np.array([[[0.0, 0.0], [30.0, 40.0], [30.0, 60.0], [0.0, 60.0]]])


def without(*points: int) -> np.ndarray:
    pose = POSE.copy()
    pose[0, list(points)] = NAN
    return pose


def test_a_keypoint_loss_is_the_mean_distance_over_annotated_points() -> None:
    preds = POSE + np.array([[[3.0, 4.0], [0.0, 0.0], [0.0, 1.0], [99.0, 0.0]]])
    assert KeypointLoss()(preds, without(3)).tolist() == pytest.approx([(5 + 0 + 1) / 3])
    assert np.array_equal(KeypointLoss().each(preds, without(3)), [[5, 0, 1, NAN]], equal_nan=True)


def test_without_an_annotated_point_there_is_no_loss() -> None:
    assert np.isnan(KeypointLoss(scale=SCALE, cap=1.0)(POSE, without(0, 1, 2, 3))).all()


def test_errors_are_divided_by_the_scale_and_capped_each_on_its_own() -> None:
    preds = POSE + np.array([[[25.0, 0.0], [0.0, 0.0], [0.0, 0.0], [500.0, 0.0]]])
    assert KeypointLoss(scale=SCALE, cap=1.0)(preds, POSE).tolist() == pytest.approx([(0.5 + 1) / 4])


def test_a_scale_is_the_diagonal_else_a_limb_of_known_ratio_else_the_extent_else_the_smallest() -> None:
    assert SCALE(POSE).tolist() == [50]
    assert SCALE(without(0)).tolist() == [2 * 20]
    assert SCALE(without(0, 1)).tolist() == [0.5 * 30]
    assert SCALE(without(0, 1, 2)).tolist() == SCALE(np.zeros((1, 4, 2))).tolist() == [1]


@pytest.mark.parametrize(
    ("error", "expected"), [("absolute", (3 + 4) / 2), ("squared", (9 + 16) / 2), ("euclidean", 5.0)]
)
def test_a_vector_loss_is_one_of_three(error: str, expected: float) -> None:
    loss = VectorLoss.model_validate({"error": error})
    assert loss(np.array([[1.0, 2.0]]), np.array([[4.0, -2.0]])).tolist() == [expected]
    assert loss.model_copy(update={"cap": 2.0})(np.array([[1.0, 2.0]]), np.array([[4.0, -2.0]])).tolist() == [2]


def test_a_scale_needs_a_ratio_for_each_limb() -> None:
    with pytest.raises(ValidationError, match="as many ratios as limbs"):
        SCALE.model_validate({**SCALE.model_dump(), "ratios": (1.0,)})
