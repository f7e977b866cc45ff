from typing import Any

import orjson
import pytest

from models.contract.manifest import Task
from service.errors import BadRequest
from service.formats.coco import document
from service.labelling.queue.label_queue import LabelRecord
from service.labelling.samples.label import read_keypoints
from service.labelling.samples.sample import Sample

TASK = Task(name="face", kind="keypoints", names=("eye", "nose", "ear"), units=("pixels",), skeleton=((0, 1), (1, 2)))


def record(number: int, values: list[Any], **changes: Any) -> LabelRecord:
    fields = {"content_type": "image/jpeg", "width": 40, "height": 30, **changes}
    sample = Sample(
        id=f"{number:032x}"[::-1],
        model="face",
        version="1",
        reasons=("predicted_loss",),
        value=1.0,
        predicted_loss=2.0,
        score=0.5,
        ood_score=0.5,
        prediction={},
        flagged_at=0.0,
        **fields,
    )
    return LabelRecord(cursor=str(number), sample=sample, annotator="ada", label={"values": values}, labelled_at=1.0)


def test_a_label_becomes_an_image_and_an_annotation_that_name_each_other() -> None:
    made = document(TASK, [record(1, [[10.0, 5.0], None, [20.0, 25.0]])])
    (image,), (annotation,) = made["images"], made["annotations"]
    assert image["file_name"].endswith(".jpg")
    assert (image["width"], image["height"]) == (40, 30)
    assert annotation["image_id"] == image["id"]
    assert annotation["keypoints"] == [10.0, 5.0, 2, 0, 0, 0, 20.0, 25.0, 2]
    assert annotation["num_keypoints"] == 2
    assert annotation["bbox"] == [10.0, 5.0, 10.0, 20.0]
    assert annotation["area"] == 200.0
    assert annotation["iscrowd"] == 0


def test_the_category_has_the_names_and_a_skeleton_that_counts_from_one() -> None:
    (category,) = document(TASK, [])["categories"]
    assert category["keypoints"] == ["eye", "nose", "ear"]
    assert category["skeleton"] == [[1, 2], [2, 3]]
    (annotation,) = document(TASK, [record(1, [[1.0, 1.0], None, None])])["annotations"]
    assert annotation["category_id"] == category["id"]


def test_ids_are_distinct_and_exact_as_doubles_and_the_same_on_every_page() -> None:
    records = [record(number, [[1.0, 1.0], None, None]) for number in range(1000)]
    ids = [image["id"] for image in document(TASK, records)["images"]]
    assert len(set(ids)) == 1000
    assert max(ids) < 2**53
    assert [document(TASK, [one])["images"][0]["id"] for one in records] == ids


def test_an_exported_label_can_be_imported_again() -> None:
    values = [[10.25, 5.5], None, [0.1, 25.0]]
    made = orjson.loads(orjson.dumps(document(TASK, [record(1, values)])))
    assert read_keypoints(made["annotations"][0]["keypoints"], TASK) == values


def test_a_vector_has_no_coco_document() -> None:
    vector = Task(name="gaze", kind="vector", names=("yaw",), units=("rad",))
    with pytest.raises(BadRequest, match="take format=ndjson"):
        document(vector, [])
