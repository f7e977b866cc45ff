import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.contract.manifest import Preprocessing, Task
from models.contract.snapshot import Row, SnapshotError
from models.refinement.dataset import Labelled, load_split
from service.inference.decode import decode
from tests.models.refinement.snapshots import png, row_of, write_folder

POINTS = Task(name="two", kind="keypoints", names=("a", "b"), units=("px",), skeleton=((0, 1),))
VECTOR = Task(name="age", kind="vector", names=("age",), units=("years",))
SPEC = Preprocessing(height=16, width=16, channels=3)
GREY = png(np.full((32, 64, 3), 90, np.uint8))
LABEL = [[0.0, 0.0], [64.0, 32.0]]


def load(
    folder: Path, rows: Sequence[Row], images: Sequence[bytes], task: Task = POINTS, spec: Preprocessing = SPEC
) -> Labelled:
    return load_split(write_folder(folder / "snapshot", "two", task, rows, images), "train", task, spec)


def test_labels_follow_their_image_onto_the_canvas(tmp_path: Path) -> None:
    found = load(tmp_path, [row_of(1, GREY, LABEL, size=(64, 32))], [GREY])
    assert found.images.shape == (1, 16, 16, 3)
    assert found.targets.tolist() == [[[0, 4], [16, 12]]]
    assert found.sizes.tolist() == [[64, 32]]
    assert not found.left_out


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turned", [1, 3, 6])
def test_canvas_and_targets_are_those_of_the_service(tmp_path: Path, kind: str, turned: int) -> None:
    rng = np.random.default_rng(0)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(rng.integers(0, 256, (120, 200, 3), np.uint8)).save(file, kind, exif=exif)
    label = [[10.0, 20.0], [100.0, 50.0]]
    found = load(tmp_path, [row_of(1, file.getvalue(), label, size=(200, 120))], [file.getvalue()])
    served = decode(file.getvalue(), SPEC, 1_000_000)
    assert np.array_equal(found.images[0], served.canvas)
    assert np.allclose(found.targets[0], served.placement.to_canvas(np.array(label)))


def test_a_keypoint_that_was_not_placed_is_nan(tmp_path: Path) -> None:
    found = load(tmp_path, [row_of(1, GREY, [None, [64.0, 32.0]])], [GREY])
    assert np.isnan(found.targets[0, 0]).all()
    assert found.targets[0, 1].tolist() == [16, 12]


def test_vectors_stay_as_they_are(tmp_path: Path) -> None:
    assert load(tmp_path, [row_of(1, GREY, [41.5])], [GREY], VECTOR).targets.tolist() == [[41.5]]


def test_only_rows_of_the_split_are_read(tmp_path: Path) -> None:
    rows = [row_of(1, GREY, LABEL, "watch"), row_of(2, GREY, LABEL), row_of(3, GREY, LABEL, "judge")]
    assert [row.sample_id for row in load(tmp_path, rows, [GREY] * 3).rows] == ["sample-00002"]


def test_bad_rows_are_named_and_left_out(tmp_path: Path) -> None:
    cut = GREY[:60]
    labels: dict[int, list[Any]] = {
        1: LABEL,
        2: [[1.0, 2.0]],
        3: [None, None],
        4: [["x", 1.0], None],
        5: [[1e4, 0.0], None],
        6: [[1, 2], 3],
    }
    rows = [row_of(number, GREY, label) for number, label in labels.items()]
    rows += [row_of(7, cut, LABEL), row_of(8, GREY, LABEL), row_of(9, b"other", LABEL)]
    folder = write_folder(tmp_path / "s", "two", POINTS, rows, [*[GREY] * 6, cut, GREY, GREY])
    (folder / "images" / "sample-00008").unlink()
    found = load_split(folder, "train", POINTS, SPEC)
    assert [row.sample_id for row in found.rows] == ["sample-00001"]
    reasons = dict(found.left_out)
    assert reasons.keys() == {f"sample-0000{number}" for number in range(2, 10)}
    words = {
        2: "shape",
        3: "no annotated",
        4: "numbers",
        5: "far outside",
        6: "numbers",
        7: "decoded",
        8: "gone",
        9: "SHA",
    }
    assert all(word in reasons[f"sample-0000{number}"] for number, word in words.items())


def test_a_split_without_rows_is_empty(tmp_path: Path) -> None:
    found = load(tmp_path, [row_of(1, GREY, LABEL, "watch")], [GREY])
    assert len(found) == 0
    assert found.images.shape == (0, 16, 16, 3)
    assert found.targets.shape == (0, 2, 2)
    assert found.sizes.shape == (0, 2)


def test_labels_of_another_task_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "s", "two", POINTS, [row_of(1, GREY, LABEL)], [GREY])
    with pytest.raises(SnapshotError, match="make a snapshot of this model"):
        load_split(folder, "train", VECTOR, SPEC)
