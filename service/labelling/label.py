"""A label against its task: what an annotator sends must be able to train the model. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from models.contract.manifest import Task
from service.errors import InvalidLabel


def check_label(values: Sequence[Any], task: Task) -> None:
    """values: [[x, y], ...] for keypoints, one number per name for a vector. Raises InvalidLabel."""
    if len(values) != len(task.names):
        raise InvalidLabel(f"{len(task.names)} values are needed ({', '.join(task.names)}), {len(values)} came")
    for name, value in zip(task.names, values, strict=True):
        if task.kind == "vector" and not _is_number(value):
            raise InvalidLabel(f"{name} must be a finite number")
        if task.kind == "keypoints" and not _is_point(value):
            raise InvalidLabel(f"{name} must be [x, y], two finite numbers in image pixels")


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))  # noqa: PLR2004 - x and y


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
