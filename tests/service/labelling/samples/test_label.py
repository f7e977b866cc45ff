import math
from typing import Any

import pytest

from models.contract.manifest import Task
from service.errors import InvalidLabel
from service.labelling.samples.label import check_inside, read_keypoints, read_values

POINTS = Task(name="face", kind="keypoints", names=("eye", "nose"), units=("pixels",))
NUMBERS = Task(name="gaze", kind="vector", names=("yaw", "pitch"), units=("rad", "rad"))


@pytest.mark.parametrize(
    "values",
    [[[1, 2], [3, 4.5]], {"nose": [3, 4.5], "eye": [1, 2]}, ((1, 2), (3, 4.5))],
    ids=["list", "names", "tuples"],
)
def test_keypoints_in_every_form_are_stored_alike(values: Any) -> None:
    assert read_values(values, POINTS) == [[1.0, 2.0], [3.0, 4.5]]


def test_a_coco_annotation_is_stored_like_values_with_null_for_a_keypoint_not_placed() -> None:
    assert read_keypoints([1, 2, 2, 0, 0, 0], POINTS) == read_values([[1, 2], None], POINTS) == [[1.0, 2.0], None]
    assert read_keypoints([1, 2, 1, 3, 4, 2], POINTS) == [[1.0, 2.0], [3.0, 4.0]]


def test_a_vector_is_stored_in_the_order_of_its_names() -> None:
    assert read_values({"pitch": 2, "yaw": 1}, NUMBERS) == read_values([1, 2], NUMBERS) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2]], "2 values are needed (eye, nose), 1 came"),
        ([], "0 came"),
        ({"eye": [1, 2]}, "nose is missing"),
        ({"eye": [1, 2], "nose": [1, 2], "ear": [1, 2]}, "ear is unknown: the names are eye, nose"),
        ([[1, 2], [3]], "nose must be [x, y]"),
        ([[1, 2], [3, 4, 5]], "nose must be [x, y]"),
        ([[1, 2], "34"], "nose must be [x, y]"),
        ([[1, 2], 3], "nose must be [x, y]"),
        ([[True, 2], [3, 4]], "eye must be [x, y]"),
        ([["1", 2], [3, 4]], "eye must be [x, y]"),
        ([[math.nan, 2], [3, 4]], "eye must be [x, y]"),
        ([[1, 2], [3, math.inf]], "nose must be [x, y]"),
        ([[1, 2], [3, 10**400]], "nose must be [x, y]"),
        ([None, None], "no keypoint is placed"),
    ],
)
def test_keypoints_that_could_not_train_are_refused_by_name(values: Any, message: str) -> None:
    with pytest.raises(InvalidLabel) as refused:
        read_values(values, POINTS)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None], "pitch must be"),
        ([1, "2"], "pitch must be"),
        ([True, 2], "yaw must be"),
        ([[1, 2], 3], "yaw must be"),
    ],
)
def test_numbers_that_could_not_train_are_refused_by_name(values: Any, message: str) -> None:
    with pytest.raises(InvalidLabel, match=message):
        read_values(values, NUMBERS)


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ([1, 2, 2], "6, 3 came"),
        ([1, 2, 2, 3, 4, 3], "nose has v = 3"),
        ([1, 2, True, 3, 4, 2], "eye has v = True"),
        ([1, 2, "2", 3, 4, 2], "eye has v = '2'"),
        ([1, 2, 2, 3, math.nan, 2], "nose must be"),
        ([1, 2, 0, 3, 4, 0], "no keypoint is placed"),
    ],
)
def test_coco_keypoints_that_could_not_train_are_refused_by_name(keypoints: list[Any], message: str) -> None:
    with pytest.raises(InvalidLabel) as refused:
        read_keypoints(keypoints, POINTS)
    assert message in str(refused.value)


def test_a_vector_has_no_coco_keypoints() -> None:
    with pytest.raises(InvalidLabel, match="gaze has no keypoints"):
        read_keypoints([1, 2, 2, 3, 4, 2], NUMBERS)


@pytest.mark.parametrize("point", [[-100, -50], [200, 100], [0, 0], [150, -3]])
def test_a_keypoint_may_lie_one_image_size_outside(point: list[float]) -> None:
    check_inside([point, None], POINTS, width=100, height=50)


@pytest.mark.parametrize("point", [[-100.5, 0], [201, 0], [0, -51], [0, 100.5]])
def test_a_keypoint_further_out_is_refused_by_name(point: list[float]) -> None:
    with pytest.raises(InvalidLabel, match=r"nose at .* outside of the image \(100 x 50 pixels\)"):
        check_inside([[1.0, 2.0], point], POINTS, width=100, height=50)


def test_the_numbers_of_a_vector_have_no_image_to_lie_in() -> None:
    check_inside([1e6, -1e6], NUMBERS, width=1, height=1)
