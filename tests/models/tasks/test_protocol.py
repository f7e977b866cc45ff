import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from models.contract.loss_definition import KeypointLoss, LossDefinition, VectorLoss
from models.contract.manifest import Loss, Preprocessing, Task
from models.tasks.protocol import Examples, RegressionTask, check_definition, check_examples

POINTS = Task(name="dots", kind="keypoints", names=("a", "b"), units=("px",))
AGES = Task(name="ages", kind="vector", names=("age",), units=("years",))
CANVAS = Preprocessing(height=8, width=6, channels=1)


def examples(**changes: Any) -> Examples:
    ids = np.arange(3)
    usual = Examples(np.zeros((3, 8, 6, 1), np.uint8), np.ones((3, 2, 2), np.float32), ids, ids)
    return dataclasses.replace(usual, **changes)


def targets(value: float, *where: slice | int) -> np.ndarray[Any, np.dtype[np.float32]]:
    changed = np.ones((3, 2, 2), np.float32)
    changed[where] = value
    return changed


def test_partly_annotated_examples_are_fine() -> None:
    check_examples(examples(targets=targets(np.nan, 1, 0)), POINTS, CANVAS, "the trunk split")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((0, 8, 6, 1), np.uint8)}, "has no examples"),
        ({"images": np.zeros((3, 6, 8, 1), np.uint8)}, r"has images uint8 \[3, 6, 8, 1\], not uint8 \[n, 8, 6, 1\]"),
        ({"images": np.zeros((3, 8, 6, 1), np.float32)}, "has images float32"),
        ({"targets": np.ones((3, 2), np.float32)}, r"has targets \[3, 2\], not \[3, 2, 2\]"),
        ({"targets": np.ones((2, 2, 2), np.float32)}, r"has targets \[2, 2, 2\], not \[3, 2, 2\]"),
        ({"source": np.arange(2)}, "3 images, 2 sources and 3 strata"),
        ({"sizes": np.ones((2, 2), np.int64)}, r"has sizes \[2, 2\], not a width and a height"),
        ({"sizes": np.zeros((3, 2), np.int64)}, r"has sizes \[3, 2\], not a width and a height"),
        ({"targets": targets(np.inf, 2, 1, 0)}, "not finite, first in row 2"),
        ({"targets": targets(np.nan, 1)}, "no annotated keypoint in row 1"),
        ({"targets": targets(17, 1, 0)}, r"keypoint out of range of its 6x8 pixels in row 1: \(17, 17\)"),
        ({"targets": targets(-9, 2, 1)}, r"keypoint out of range of its 6x8 pixels in row 2: \(-9, -9\)"),
    ],
)
def test_examples_that_do_not_fit_are_refused_by_the_name_of_where_they_are(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^the trunk split .*{message}"):
        check_examples(examples(**changes), POINTS, CANVAS, "the trunk split")


def test_a_vector_has_no_missing_values() -> None:
    ages = np.array([[1], [np.nan], [3]], np.float32)
    with pytest.raises(ValueError, match="not finite, first in row 1"):
        check_examples(examples(targets=ages), AGES, CANVAS, "the head split")


def a_task(definition: LossDefinition | None) -> RegressionTask:
    """Of two points, whose loss is at most 3 pixels."""

    def true_loss(preds: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(np.nanmean(np.minimum(np.linalg.norm(preds - targets, axis=-1), 3), axis=-1))

    loss = Loss(name="distance", unit="px", failure_level=2.0, definition=definition)
    return cast(RegressionTask, SimpleNamespace(task=POINTS, loss=loss, true_loss=true_loss))


@pytest.mark.parametrize("definition", [None, KeypointLoss(cap=3.0)])
def test_a_loss_is_declared_as_it_is_or_not_at_all(definition: LossDefinition | None) -> None:
    check_definition(a_task(definition), examples(targets=targets(np.nan, 1, 0)))


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (KeypointLoss(), "the loss that dots declares gives .* correct its definition, or leave it out"),
        (VectorLoss(error="absolute"), "dots has keypoints, but declares a loss of vector"),
    ],
)
def test_a_loss_that_is_declared_otherwise_is_refused(definition: LossDefinition, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_definition(a_task(definition), examples(targets=np.arange(12, dtype=np.float32).reshape(3, 2, 2)))
