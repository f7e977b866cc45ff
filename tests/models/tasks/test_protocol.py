import dataclasses
from typing import Any

import numpy as np
import pytest

from models.contract.manifest import Preprocessing, Task
from models.tasks.protocol import Examples, check_examples

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
