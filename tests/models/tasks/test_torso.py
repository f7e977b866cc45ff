import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.loss_definition import TorsoScale
from models.tasks.pose import JOINTS
from models.tasks.torso import EXTENT_RATIO, SMALLEST_PX, fit_torso_scale
from tests.models.tasks.pose_photographs import STANDING


@pytest.fixture
def poses() -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return STANDING * rng.uniform(0.5, 2, (50, 1, 1)) + rng.normal(0, 1, (50, 14, 2))


@pytest.fixture
def scale(poses: NDArray[np.float64]) -> TorsoScale:
    return fit_torso_scale(JOINTS, poses)


def at(name: str) -> int:
    return JOINTS.index(name)


def without(pose: NDArray[np.float64], *names: str) -> NDArray[np.float64]:
    changed = pose.copy()
    changed[..., [at(name) for name in names], :] = np.nan
    return changed


TORSO = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")


def test_the_longer_diagonal_counts(scale: TorsoScale, poses: NDArray[np.float64]) -> None:
    first = np.linalg.norm(poses[:, at("right_shoulder")] - poses[:, at("left_hip")], axis=1)
    second = np.linalg.norm(poses[:, at("left_shoulder")] - poses[:, at("right_hip")], axis=1)
    np.testing.assert_allclose(scale(poses), np.maximum(first, second))
    np.testing.assert_allclose(scale(without(poses, "left_hip")), second)
    np.testing.assert_allclose(scale(without(poses, "left_shoulder")), first)


@pytest.mark.parametrize("missing", [("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), TORSO])
def test_other_limbs_stand_in_for_a_missing_torso(
    scale: TorsoScale, poses: NDArray[np.float64], missing: tuple[str, ...]
) -> None:
    np.testing.assert_allclose(scale(without(poses, *missing)), scale(poses), rtol=0.25)


def test_the_extent_is_the_last_resort(scale: TorsoScale) -> None:
    pose = np.full((1, 14, 2), np.nan)
    pose[0, at("left_wrist")], pose[0, at("right_ankle")] = (10, 10), (40, 110)
    np.testing.assert_allclose(scale(pose), 100 * scale.extent_ratio)


def test_a_scale_is_never_zero_nor_nan(scale: TorsoScale) -> None:
    one_joint = np.full((1, 14, 2), np.nan)
    one_joint[0, 0] = 5
    assert scale(one_joint).tolist() == scale(np.full((1, 14, 2), 7.0)).tolist() == [SMALLEST_PX]


def test_a_scale_follows_the_size_of_the_image(scale: TorsoScale, poses: NDArray[np.float64]) -> None:
    partial = without(poses, "left_hip", "right_hip")
    np.testing.assert_allclose(scale(2 * partial + 5), 2 * scale(partial))


def test_limbs_that_training_never_saw_are_not_used(poses: NDArray[np.float64]) -> None:
    scale = fit_torso_scale(JOINTS, without(poses, *TORSO))
    assert scale.extent_ratio == EXTENT_RATIO
    assert np.isfinite(scale(without(poses, *TORSO))).all()
