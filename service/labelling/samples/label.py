"""Checks a label against its task: it must be able to train the model. Pure.

A label may come in several forms. It is stored as one list: for keypoints [x, y] or None (not placed) in the order of
the task's names, for a vector one number for each name.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models.contract.manifest import Task
from service.errors import InvalidLabel

Point = list[float]
Values = list[Point | None] | list[float]


def read_values(values: Sequence[Any] | Mapping[str, Any], task: Task) -> Values:
    """values: one for each name of the task, in their order or by name. Raises InvalidLabel."""
    ordered = _by_name(values, task.names) if isinstance(values, Mapping) else values
    if len(ordered) != len(task.names):
        raise InvalidLabel(f"{len(task.names)} values are needed ({', '.join(task.names)}), {len(ordered)} came")
    named = list(zip(task.names, ordered, strict=True))
    if task.kind == "vector":
        return [_number(name, value) for name, value in named]
    return _placed([_point(name, value) for name, value in named])


def read_keypoints(keypoints: Sequence[Any], task: Task) -> Values:
    """keypoints: x, y, v for each name of the task, as in a COCO annotation. Raises InvalidLabel."""
    if task.kind != "keypoints":
        raise InvalidLabel(f"{task.name} has no keypoints: send `values`, one number for each name")
    if len(keypoints) != 3 * len(task.names):
        raise InvalidLabel(
            f"3 numbers (x, y, v) are needed for each of {', '.join(task.names)}: {3 * len(task.names)}, "
            f"{len(keypoints)} came"
        )
    triples = zip(*[iter(keypoints)] * 3, strict=True)
    return _placed([_visible(name, *triple) for name, triple in zip(task.names, triples, strict=True)])


def check_inside(values: Sequence[Point | None] | Sequence[float], task: Task, width: int, height: int) -> None:
    """Refuses a keypoint that lies more than one image size outside of the image; less than that is a limb cut off.

    width, height: of the image as posted, in pixels. Raises InvalidLabel.
    """
    for name, point in zip(task.names, values, strict=True):
        if isinstance(point, list) and not (-width <= point[0] <= 2 * width and -height <= point[1] <= 2 * height):
            raise InvalidLabel(
                f"{name} at [{point[0]:g}, {point[1]:g}] is further than one image size outside of the image "
                f"({width} x {height} pixels): send pixels of the image as posted"
            )


def _by_name(values: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    unknown, missing = values.keys() - set(names), [name for name in names if name not in values]
    if unknown or missing:
        wrong = [f"{name} is unknown" for name in sorted(unknown)] + [f"{name} is missing" for name in missing]
        raise InvalidLabel(f"{', '.join(wrong)}: the names are {', '.join(names)}")
    return [values[name] for name in names]


def _placed(points: list[Point | None]) -> list[Point | None]:
    if not any(points):
        raise InvalidLabel("no keypoint is placed: reject the sample if none can be")
    return points


def _point(name: str, value: Any) -> Point | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(_is_number, value)):  # noqa: PLR2004 - x and y
        raise InvalidLabel(
            f"{name} must be [x, y], two finite numbers in image pixels, or null when it cannot be placed"
        )
    return [float(part) for part in value]


def _visible(name: str, x: Any, y: Any, v: Any) -> Point | None:
    if isinstance(v, bool) or v not in (0, 1, 2):
        raise InvalidLabel(f"{name} has v = {v!r}: 0 is not placed, 1 is hidden, 2 is visible")
    point = _point(name, [x, y])
    return point if v else None


def _number(name: str, value: Any) -> float:
    if not _is_number(value):
        raise InvalidLabel(f"{name} must be a finite number")
    return float(value)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
