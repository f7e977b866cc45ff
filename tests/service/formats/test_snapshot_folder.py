"""A snapshot has every label that can be used, names the others, and is the same whenever and however it is made."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from models.contract.snapshot import Snapshot, SnapshotError, image_path, read_recent, read_snapshot
from service.formats.snapshot_folder import Audits, write_snapshot
from service.schemas.labelling import LabelLine, SampleReply

TASK = {"name": "tiny", "kind": "keypoints", "names": ["a", "b"], "units": ["pixels"]}
LABEL = [[1.0, 2.0], None]


@pytest.fixture(scope="module")
def files(encode: Callable[..., bytes]) -> dict[str, bytes]:
    """Ten image files that have nothing in common, by sample id."""
    rng = np.random.default_rng(0)
    noise = (Image.fromarray(rng.integers(0, 256, (40, 30, 3)).astype(np.uint8)) for _ in range(10))
    return {f"{number:032x}": encode(image) for number, image in enumerate(noise)}


def line(sample_id: str, **changes: Any) -> LabelLine:
    fields = {
        "sample_id": sample_id,
        "model": "tiny",
        "version": "1",
        "label": {"values": LABEL},
        "annotator": "ada",
        "labelled_at": 2e9 + int(sample_id, 16),
        "lane": "audit" if int(sample_id, 16) % 2 else "predicted_loss",
        "audit_probability": 0.01 if int(sample_id, 16) % 2 else None,
        "source": None,
        "prediction": {"kind": "keypoints", "names": ["a", "b"], "values": [[2.0, 2.0], [6.0, 6.0]]},
        "predicted_loss": 1.5,
        "flagged_at": 1e9,
        "width": 30,
        "height": 40,
        "image": f"/v1/samples/{sample_id}/image",
    }
    return LabelLine.model_validate({**fields, **changes})


def write(
    out: Path, files: dict[str, bytes], lines: Sequence[LabelLine] | None = None, page: int = 3, **options: Any
) -> Snapshot:
    listed = list(map(line, files)) if lines is None else lines
    pages = (listed[start : start + page] for start in range(0, len(listed), page))
    fetch = options.pop("fetch", lambda one: files[one.sample_id])
    return write_snapshot(out, "tiny", TASK, pages=pages, fetch=fetch, **options)


def reasons(out: Path) -> dict[str, str]:
    found = map(orjson.loads, (out / "left_out.ndjson").read_bytes().splitlines())
    return {one["sample_id"]: one["reason"] for one in found}


def test_every_label_becomes_a_row_with_its_image_beside_it(files: dict[str, bytes], tmp_path: Path) -> None:
    made = write(tmp_path / "one", files)
    snapshot, rows = read_snapshot(tmp_path / "one")
    assert snapshot == made
    assert made.rows == 10
    assert [row.sample_id for row in rows] == list(files)
    for row in rows:
        image = image_path(tmp_path / "one", row).read_bytes()
        assert image == files[row.sample_id]
        assert row.sha256 == hashlib.sha256(image).hexdigest()
        assert row.label == LABEL
        assert row.split in {"train", "watch"} if row.lane == "predicted_loss" else {"calibrate", "judge"}
        assert row.inclusion_probability == (0.01 if row.lane == "audit" else None)
    assert not (tmp_path / "one.part").exists()


def test_the_same_labels_give_the_same_fingerprint_and_another_label_another(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    first = write(tmp_path / "one", files)
    assert write(tmp_path / "two", files, page=7).fingerprint == first.fingerprint
    changed = [line(one, label={"values": [[1.0, 2.5], None]}) if one.endswith("3") else line(one) for one in files]
    assert write(tmp_path / "three", files, changed).fingerprint != first.fingerprint


def test_a_label_that_cannot_be_used_is_named_and_the_others_are_taken(files: dict[str, bytes], tmp_path: Path) -> None:
    first, second, third, *_ = files
    lines = [line(one) for one in files]
    lines[0] = line(first, label={"values": [[1.0, 2.0]]})
    broken = {**files, second: files[second][:200]}
    made = write(
        tmp_path / "one",
        files,
        lines,
        fetch=lambda one: "its image is gone" if one.sample_id == third else broken[one.sample_id],
    )
    assert (made.rows, made.left_out) == (7, 3)
    found = reasons(tmp_path / "one")
    assert found.keys() == {first, second, third}
    assert "another task" in found[first]
    assert "damaged or cut short" in found[second]
    assert found[third] == "its image is gone"


def test_a_sample_that_was_labelled_twice_keeps_its_first_label(files: dict[str, bytes], tmp_path: Path) -> None:
    again = line(next(iter(files)), label={"values": [None, [9.0, 9.0]]})
    write(tmp_path / "one", files, [*map(line, files), again])
    _, rows = read_snapshot(tmp_path / "one")
    assert [row.label for row in rows] == [LABEL] * 10


def test_a_run_that_was_cut_off_goes_on_without_fetching_again(files: dict[str, bytes], tmp_path: Path) -> None:
    fetched: list[str] = []

    def fetch(one: LabelLine) -> bytes:
        fetched.append(one.sample_id)
        if len(fetched) == 5:
            raise ConnectionError("no answer")
        return files[one.sample_id]

    with pytest.raises(ConnectionError):
        write(tmp_path / "one", files, fetch=fetch)
    with pytest.raises(SnapshotError, match="losscast snapshot"):
        read_snapshot(tmp_path / "one.part")
    made = write(tmp_path / "one", files, fetch=fetch)
    assert made.fingerprint == write(tmp_path / "whole", files).fingerprint
    assert all(fetched.count(one) == 1 for one in list(files)[:3])  # the page that was whole


def test_images_of_a_previous_snapshot_are_not_fetched_again_and_erased_samples_are_gone(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    write(tmp_path / "old", files)
    erased = next(iter(files))
    left = [line(one) for one in files if one != erased]

    def never(one: LabelLine) -> bytes:
        raise AssertionError(f"{one.sample_id} was fetched")

    made = write(tmp_path / "new", files, left, fetch=never, previous=tmp_path / "old")
    _, old = read_snapshot(tmp_path / "old")
    _, new = read_snapshot(tmp_path / "new")
    assert new == [row for row in old if row.sample_id != erased]
    assert made.rows == 9
    assert not (tmp_path / "new" / "images" / erased).exists()


def test_an_image_of_an_earlier_run_whose_sample_is_erased_by_now_is_removed(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    def two_pages() -> Iterator[list[LabelLine]]:
        yield list(map(line, files))
        raise ConnectionError("no answer")

    with pytest.raises(ConnectionError):
        write_snapshot(tmp_path / "one", "tiny", TASK, pages=two_pages(), fetch=lambda one: files[one.sample_id])
    erased = next(iter(files))
    write(tmp_path / "one", files, [line(one) for one in files if one != erased])
    assert {path.name for path in (tmp_path / "one" / "images").iterdir()} == files.keys() - {erased}


def test_what_cannot_be_a_snapshot_is_refused_with_one_line(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="no label that can be used"):
        write(tmp_path / "none", files, [])
    write(tmp_path / "one", files)
    with pytest.raises(SnapshotError, match="choose another folder"):
        write(tmp_path / "one", files)
    with pytest.raises(SnapshotError, match="of model tiny or of another task"):
        write_snapshot(
            tmp_path / "two",
            "pose",
            TASK,
            pages=[],
            fetch=lambda one: files[one.sample_id],
            previous=tmp_path / "one",
        )


def test_a_snapshot_that_was_changed_is_not_read(files: dict[str, bytes], tmp_path: Path) -> None:
    write(tmp_path / "one", files)
    rows = tmp_path / "one" / "rows.ndjson"
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(SnapshotError, match="do not have its fingerprint"):
        read_snapshot(tmp_path / "one")
    rows.write_bytes(b"{}\n")
    with pytest.raises(SnapshotError, match="damaged"):
        read_snapshot(tmp_path / "one")


def test_recent_audits_without_a_label_come_along_and_change_no_fingerprint(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    ids = list(files)
    plain = write(tmp_path / "plain", files, [line(one) for one in ids[:4]])
    fields = {**line(ids[1]).model_dump(), "content_type": "image/png", "reasons": [], "value": 0.0, "score": 0.1}
    fields = {name: fields.get(name, 0.5) for name in SampleReply.model_fields}
    recent = [SampleReply(**{**fields, "sample_id": one}) for one in (ids[0], *ids[5:8])]  # the first is labelled
    audits = Audits(recent, lambda one: None if one.sample_id == ids[7] else files[one.sample_id], rejected=3)
    made = write(tmp_path / "one", files, [line(one) for one in ids[:4]], audits=audits)
    assert made.fingerprint == plain.fingerprint
    assert made.rejected_audits == 3
    found = read_recent(tmp_path / "one")
    assert [one.sample_id for one in found] == ids[5:7]
    assert found[0].inclusion_probability == 0.01
    assert image_path(tmp_path / "one", found[0]).read_bytes() == files[ids[5]]
    assert read_recent(tmp_path / "plain") == []
