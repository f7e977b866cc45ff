import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.tasks.pose import JOINTS, Pose
from models.tasks.pose_data import read_photographs
from tests.models.tasks.pose_photographs import HEIGHT, read_entries, write_labels, write_tar

Change = Callable[[list[dict[str, Any]]], None]


@pytest.fixture
def folder(pose_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(pose_folder, tmp_path / "pose")


def set_joint(value: list[Any]) -> Change:
    return lambda entries: entries[3]["joints"].__setitem__(2, value)


def set_field(name: str, value: object) -> Change:
    return lambda entries: entries[3].__setitem__(name, value)


def unannotate(entries: list[dict[str, Any]]) -> None:
    for row in entries[3]["joints"]:
        row[2] = 0


def unannotate_all(entries: list[dict[str, Any]]) -> None:
    for one in entries:
        one["joints"] = [[0, 0, 0]] * len(JOINTS)


def edit(folder: Path, change: Change) -> None:
    entries = read_entries(folder)
    change(entries)
    write_labels(folder, entries)


def test_photographs_lie_on_canvases_with_their_joints_in_place(pose_folder: Path) -> None:
    found = read_photographs(pose_folder, Pose.preprocessing)
    entries = read_entries(pose_folder)
    assert found.images.shape == (len(entries), 128, 128, 3)
    assert found.names == JOINTS
    assert list(found.files) == [one["image"] for one in entries]
    table = np.array([one["joints"] for one in entries])
    assert np.array_equal(np.isnan(found.joints[..., 0]), table[..., 2] == 0)
    scale, left = 128 / HEIGHT, (128 - 105) // 2  # 90 x 110 becomes 105 x 128
    there = table[..., 2] == 1
    expected = table[..., :2] * (105 / 90, scale) + (left, 0)
    np.testing.assert_allclose(found.joints[there], expected[there], rtol=1e-5)


def test_a_drawn_joint_has_the_colour_of_its_limb_in_rgb(pose_folder: Path) -> None:
    found = read_photographs(pose_folder, Pose.preprocessing)
    x, y = found.joints[1, JOINTS.index("left_knee")].astype(int)
    red, _, blue = found.images[1, y, x].astype(int)
    assert red > blue + 100  # drawn in BGR (30, 200, 240)


def test_images_without_an_annotated_joint_are_left_out_and_counted(folder: Path) -> None:
    edit(folder, unannotate)
    found = read_photographs(folder, Pose.preprocessing)
    assert found.without_joints == 1
    assert "im00003.jpg" not in found.files
    assert np.isfinite(found.joints).any(axis=(1, 2)).all()


def test_annotations_well_outside_the_frame_are_left_out_and_counted(folder: Path) -> None:
    edit(folder, set_joint([-40, 10, 1]))
    found = read_photographs(folder, Pose.preprocessing)
    assert found.outside == 1
    assert np.isnan(found.joints[3, 2]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_joint([900, 10, 1]), r"im00003\.jpg has a joint at \(900, 10\), out of range of its 90x110"),
        (set_joint([float("nan"), 10, 1]), "im00003.jpg has an annotated joint without a position"),
        (set_joint([1, 2]), "im00003.jpg needs 14 joints"),
        (set_joint([1, 2, 3]), "neither 0 nor 1"),
        (set_joint(["left", 2, 1]), "im00003.jpg has joints that are not numbers"),
        (set_joint([[1, 2], 2, 1]), "im00003.jpg has joints that are not numbers"),
        (set_field("height", 0), "im00003.jpg has a width and a height of 90 and 0"),
        (set_field("width", float("inf")), "im00003.jpg has a width and a height of inf and 110"),
        (set_field("width", "wide"), "im00003.jpg has a width and a height of 'wide'"),
        (set_field("joints", []), "im00003.jpg needs 14 joints"),
        (set_field("split", "validation"), "split 'validation', which is none of"),
        (set_field("width", 91), "im00003.jpg has .* another shape"),
        (set_field("image", "im00002.jpg"), "names an image twice"),
        (set_field("image", "im99999.jpg"), "im99999.jpg is in labels.json but in none of crops-1.tar, crops-2.tar"),
        (lambda entries: entries[3].pop("joints"), "cannot be read as labels: KeyError: 'joints'"),
        (unannotate_all, "none of the 204 images .* has an annotated joint"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_by_name(folder: Path, change: Change, message: str) -> None:
    edit(folder, change)
    with pytest.raises((ValueError, OSError), match=message):
        read_photographs(folder, Pose.preprocessing)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no labels\.json"):
        read_photographs(tmp_path, Pose.preprocessing)


def test_labels_that_are_not_json_are_refused(folder: Path) -> None:
    (folder / "labels.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as labels: JSONDecodeError"):
        read_photographs(folder, Pose.preprocessing)


def test_a_missing_tar_is_named_by_what_it_should_hold(folder: Path) -> None:
    (folder / "crops-2.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"im00001\.jpg is in labels\.json but in none of crops-1\.tar: a tar"):
        read_photographs(folder, Pose.preprocessing)
    (folder / "crops-1.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no crops-\*\.tar"):
        read_photographs(folder, Pose.preprocessing)


def test_damaged_files_are_refused(folder: Path) -> None:
    names = [f"im{number:05d}.jpg" for number in range(1, 204, 2)]
    write_tar(folder / "crops-2.tar", dict.fromkeys(names, b"no image"))
    with pytest.raises(ValueError, match=r"im00001\.jpg cannot be decoded"):
        read_photographs(folder, Pose.preprocessing)
    (folder / "crops-2.tar").write_bytes(b"no tar")
    with pytest.raises(ValueError, match=r"crops-2\.tar is damaged"):
        read_photographs(folder, Pose.preprocessing)
