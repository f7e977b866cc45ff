from dataclasses import replace

import orjson
import pytest

from service.labelling.samples.sample import Sample, flagged_lane, sample_id


def sample() -> Sample:
    return Sample(
        id=sample_id("digits", b"image"),
        model="digits",
        version="1",
        content_type="image/png",
        reasons=("predicted_loss", "ood_score"),
        value=4.605170185988092,
        predicted_loss=0.31,
        score=-1.5,
        ood_score=4.2,
        prediction={"kind": "keypoints", "values": [[1.5, 2.25]]},
        flagged_at=1_700_000_000.123456,
        width=640,
        height=480,
    )


def test_a_sample_survives_json_to_the_last_bit() -> None:
    assert Sample.from_json(sample().to_json()) == sample()


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b'{"reasons": []}', sample().to_json()[:-1]])
def test_bytes_that_are_no_sample_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a sample"):
        Sample.from_json(data)


@pytest.mark.parametrize(
    ("reasons", "lane"), [(["predicted_loss", "ood_score"], "predicted_loss"), (["ood_score"], "ood_score")]
)
def test_the_lane_follows_from_the_reasons(reasons: list[str], lane: str) -> None:
    assert flagged_lane(reasons) == lane


def test_the_image_has_the_name_that_the_queue_gave_it_and_until_then_its_id() -> None:
    assert sample().image == sample().id
    assert replace(sample(), blob="images/a").image == "images/a"


@pytest.mark.parametrize("name", ["width", "lane", "source", "blob"])
def test_json_that_lacks_a_field_is_no_sample(name: str) -> None:
    fields = orjson.loads(sample().to_json())
    del fields[name]
    with pytest.raises(ValueError, match=f"not a sample: '{name}'"):
        Sample.from_json(orjson.dumps(fields))


def test_fields_that_a_later_build_adds_are_ignored() -> None:
    assert Sample.from_json(orjson.dumps({**orjson.loads(sample().to_json()), "mood": "bright"})) == sample()


def test_an_id_is_unique_per_model_and_content() -> None:
    ids = {sample_id(model, image) for model in ("a", "ab") for image in (b"", b"b", b"\0b")}
    assert len(ids) == 6
    assert sample_id("a", b"b") == sample_id("a", b"b")
    assert all(len(value) == 32 and int(value, 16) >= 0 for value in ids)
