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
def test_a_sample_of_the_first_version_is_read_and_finds_its_lane(reasons: list[str], lane: str) -> None:
    new = {"width", "height", "source", "audit_probability", "bytes", "blob"}
    fields = {name: value for name, value in orjson.loads(sample().to_json()).items() if name not in new}
    old = Sample.from_json(orjson.dumps({**fields, "lane": "flagged", "reasons": reasons}))
    assert (old.lane, old.source, old.audit_probability, old.bytes) == (lane, None, None, 0)
    assert old.image == old.id
    assert flagged_lane(tuple(reasons)) == lane


def test_what_a_later_build_adds_to_a_sample_is_passed_over() -> None:
    assert Sample.from_json(orjson.dumps({**orjson.loads(sample().to_json()), "mood": "bright"})) == sample()


def test_an_id_is_unique_per_model_and_content() -> None:
    ids = {sample_id(model, image) for model in ("a", "ab") for image in (b"", b"b", b"\0b")}
    assert len(ids) == 6
    assert sample_id("a", b"b") == sample_id("a", b"b")
    assert all(len(value) == 32 and int(value, 16) >= 0 for value in ids)
