from dataclasses import replace
from typing import Any

import orjson
import pytest

from service.labelling.queue.label_queue import LabelRecord
from service.labelling.samples.fields import line_fields, put_arguments, reply_fields
from service.labelling.samples.sample import Sample
from service.schemas.labelling import LabelLine, SampleReply

PREDICTION = {"kind": "vector", "names": ["age"], "values": [41.5], "predicted_loss": None}


@pytest.fixture
def sample() -> Sample:
    return Sample(
        id="a" * 32,
        model="faces",
        version="3",
        content_type="image/jpeg",
        reasons=("ood_score",),
        value=0.1,
        predicted_loss=0.2,
        score=0.3,
        ood_score=0.4,
        prediction=PREDICTION,
        flagged_at=1_700_000_000.123456,
        width=640,
        height=480,
        lane="audit",
        source="door",
        audit_probability=0.01,
        bytes=1234,
        blob="images/faces/1/aa/a-1",
    )


def test_a_reply_has_every_field_of_a_sample_that_callers_see(sample: Sample) -> None:
    reply = SampleReply(**reply_fields(sample)).model_dump()
    assert reply["sample_id"] == sample.id
    assert reply["image"] == f"/v1/samples/{sample.id}/image?model=faces"
    assert (reply["reasons"], reply["prediction"]) == (["ood_score"], PREDICTION)
    named: dict[str, Any] = {name: reply[name] for name in reply if name in Sample.__dataclass_fields__}
    assert len(named) == 15
    for name in named.keys() - {"reasons", "prediction"}:
        assert named[name] == getattr(sample, name)


def test_a_line_has_the_label_with_its_sample_in_the_order_of_its_schema(sample: Sample) -> None:
    record = LabelRecord("1-0", sample, "ada", {"values": [40.0]}, 1_700_000_100.0)
    line = line_fields(record)
    assert list(line) == list(LabelLine.model_fields)
    read = LabelLine.model_validate_json(orjson.dumps(line))
    assert (read.sample_id, read.annotator, read.label.values) == (sample.id, "ada", [40.0])
    assert (read.lane, read.audit_probability, read.width, read.height) == ("audit", 0.01, 640, 480)


def test_the_arguments_of_a_put_keep_numbers_to_the_last_bit(sample: Sample) -> None:
    head = (sample.id, "audit", "0.1", 1234, "1700000000.123456", sample.blob, "door")
    assert put_arguments(sample) == (*head, sample.to_json())
    assert put_arguments(replace(sample, source=None, blob=""))[5:7] == (sample.id, "")
