"""Labels as a COCO keypoints document, which annotation tools and training code read. Pure.

COCO needs whole numbers as ids. They are derived from the sample ids, so that the documents of several pages can be
joined by joining their lists.
"""

from collections.abc import Iterable
from typing import Any

from models.contract.manifest import Task
from service.errors import BadRequest
from service.labelling.queue.label_queue import LabelRecord
from service.schemas.labelling import file_name, image_path

CATEGORY_ID = 1
ID_DIGITS = 13  # 52 bits: JavaScript and other readers keep numbers as doubles


def document(task: Task, records: Iterable[LabelRecord]) -> dict[str, Any]:
    """The labels of one task. Raises BadRequest if the task has no keypoints."""
    if task.kind != "keypoints":
        raise BadRequest(f"COCO holds keypoints and {task.name} is a vector: take format=ndjson")
    records = list(records)
    return {
        "info": {"description": f"Labels of the task {task.name}"},
        "licenses": [],
        "images": [_image(record) for record in records],
        "annotations": [_annotation(record) for record in records],
        "categories": [_category(task)],
    }


def _category(task: Task) -> dict[str, Any]:
    return {
        "id": CATEGORY_ID,
        "name": task.name,
        "supercategory": task.name,
        "keypoints": list(task.names),
        "skeleton": [[start + 1, end + 1] for start, end in task.skeleton],  # COCO counts from 1
    }


def _image(record: LabelRecord) -> dict[str, Any]:
    sample = record.sample
    return {
        "id": _number(sample.id),
        "file_name": file_name(sample.id, sample.content_type),
        "width": sample.width,
        "height": sample.height,
        "coco_url": image_path(sample.model, sample.id),
    }


def _annotation(record: LabelRecord) -> dict[str, Any]:
    points = record.label["values"]
    left, top, width, height = _box([point for point in points if point is not None])
    return {
        "id": _number(record.sample.id),
        "image_id": _number(record.sample.id),
        "category_id": CATEGORY_ID,
        "keypoints": [number for point in points for number in ((0, 0, 0) if point is None else (*point, 2))],
        "num_keypoints": sum(point is not None for point in points),
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def _box(points: list[list[float]]) -> tuple[float, float, float, float]:
    """Left, top, width, height of the smallest box around the points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _number(sample_id: str) -> int:
    return int(sample_id[:ID_DIGITS], 16)
