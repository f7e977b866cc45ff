"""The loss that a service computes from a label is the loss of the task, through the letterbox and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.loss_definition import KeypointLoss, LossDefinition, VectorLoss
from models.contract.manifest import Manifest, Task
from models.contract.preprocess import place
from models.contract.true_loss import true_loss
from models.tasks.digits import Digits
from models.tasks.pose import Pose
from models.tasks.protocol import RegressionTask

SIZES = [(64, 64), (640, 480), (31, 97), (1000, 3), (128, 128)]


@pytest.fixture(scope="module", params=["digits", "pose"])
def task(request: pytest.FixtureRequest, pose_folder: Path) -> RegressionTask:
    return Digits() if request.param == "digits" else Pose(pose_folder)


def of_task(manifest: Manifest, task: RegressionTask) -> Manifest:
    return manifest.model_copy(update={"task": task.task, "preprocessing": task.preprocessing, "loss": task.loss})


def declared(manifest: Manifest, definition: LossDefinition | None, **changes: Any) -> Manifest:
    return manifest.model_copy(update={"loss": manifest.loss.model_copy(update={"definition": definition}), **changes})


def as_label(points: NDArray[np.float64]) -> list[list[float] | None]:
    return [point.tolist() if np.isfinite(point).all() else None for point in points]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_loss_of_the_task_for_every_size_of_the_image(
    tiny_version: Manifest, task: RegressionTask, size: tuple[int, int]
) -> None:
    targets = task.examples("test").targets[:20]
    preds = np.nan_to_num(targets) + np.random.default_rng(0).normal(0, 6, targets.shape)
    placement, manifest = place(*size, task.preprocessing), of_task(tiny_version, task)
    found = [
        true_loss(manifest, placement.to_image(pred).tolist(), as_label(placement.to_image(target)), *size)
        for pred, target in zip(preds, targets, strict=True)
    ]
    np.testing.assert_allclose(np.array(found, np.float64), task.true_loss(preds, targets), rtol=1e-9)


def test_pixels_of_the_image_are_not_pixels_of_the_canvas(tiny_version: Manifest) -> None:
    manifest = declared(tiny_version, KeypointLoss())  # 8x8 pixels
    assert true_loss(manifest, [[0, 0], [50, 0]], [[0, 0], [0, 0]], 800, 800) == pytest.approx(0.25)


def test_a_vector_needs_no_size(tiny_version: Manifest) -> None:
    task = Task(name="gaze", kind="vector", names=("yaw", "pitch"), units=("degrees", "degrees"))
    manifest = declared(tiny_version, VectorLoss(error="euclidean"), task=task)
    assert true_loss(manifest, [1.0, 2.0], [4.0, 6.0], None, None) == 5


def test_a_loss_that_cannot_be_computed_is_none(tiny_version: Manifest) -> None:
    points: list[Any] = [[1.0, 1.0], [2.0, 2.0]]
    manifest = declared(tiny_version, KeypointLoss())
    assert true_loss(declared(tiny_version, None), points, points, 8, 8) is None
    assert true_loss(manifest, points, points, None, None) is None
    assert true_loss(manifest, points, [None, None], 8, 8) is None


@pytest.mark.parametrize("label", [[[1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
def test_labels_of_another_shape_are_refused(tiny_version: Manifest, label: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        true_loss(declared(tiny_version, KeypointLoss()), [[1, 1], [2, 2]], label, 8, 8)
