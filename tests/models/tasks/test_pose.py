import shutil
import tarfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from models.tasks.pose import FOLDS, JOINTS, SKELETON, Pose
from models.tasks.protocol import SPLITS, check_examples
from tests.models.tasks.pose_photographs import read_entries, write_labels, write_tar


@pytest.fixture(scope="module")
def pose(pose_folder: Path) -> Pose:
    return Pose(pose_folder)


def test_splits_keep_to_the_file_and_share_nothing(pose: Pose) -> None:
    sources = {split: set(pose.sources(split).tolist()) for split in SPLITS}
    assert {split: len(rows) for split, rows in sources.items()} == {
        "trunk": 50, "head": 10, "calibration": 120, "test": 24,
    }  # fmt: skip
    assert all(not one & other for one, other in combinations(sources.values(), 2))
    assert {pose.photographs.splits[row] for row in sources["trunk"] | sources["head"]} == {"train"}
    assert {pose.photographs.splits[row] for row in sources["test"]} == {"test"}


def test_every_fold_holds_out_other_images_for_the_head(pose_folder: Path) -> None:
    tasks = [Pose(pose_folder, fold) for fold in range(FOLDS)]
    held_out = [set(task.sources("head").tolist()) for task in tasks]
    assert all(not one & other for one, other in combinations(held_out, 2))
    assert len(set.union(*held_out)) == 60
    assert len({task.fingerprint for task in tasks}) == FOLDS
    assert all(np.array_equal(task.sources("test"), tasks[0].sources("test")) for task in tasks)


def test_a_fold_that_does_not_exist_is_refused(pose_folder: Path) -> None:
    with pytest.raises(ValueError, match="from 0 to 5, not 6"):
        Pose(pose_folder, FOLDS)


def test_near_duplicates_leave_the_earlier_split_and_are_counted(pose_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pose_folder, tmp_path / "pose")
    rows = {split: int(Pose(folder).sources(split)[0]) for split in SPLITS}
    with tarfile.open(folder / "crops-1.tar") as one, tarfile.open(folder / "crops-2.tar") as two:
        files = {Path(m.name).name: tar.extractfile(m).read() for tar in (one, two) for m in tar}  # type: ignore[union-attr]  # all are files
    names = {split: f"im{row:05d}.jpg" for split, row in rows.items()}
    for split in ("trunk", "head", "calibration"):
        files[names[split]] = files[names["test"]]
    write_tar(folder / "crops-1.tar", files)
    (folder / "crops-2.tar").unlink()
    pose = Pose(folder)
    assert pose.near_duplicates == {"trunk": 1, "head": 1, "calibration": 1}
    assert rows["test"] in pose.sources("test")
    assert not any(rows[split] in pose.sources(split) for split in ("trunk", "head", "calibration"))
    assert "1 from trunk, 1 from head, 1 from calibration" in pose.card


def test_a_split_without_images_is_refused(pose_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pose_folder, tmp_path / "pose")
    write_labels(folder, [one for one in read_entries(folder) if one["split"] != "calibration"])
    with pytest.raises(ValueError, match="leaves no image for calibration"):
        Pose(folder)


def test_examples_fit_the_manifest_and_count_the_annotated_joints(pose: Pose) -> None:
    for split in SPLITS:
        check_examples(pose.examples(split), pose.task, pose.preprocessing, split)
    examples = pose.examples("trunk")
    assert np.array_equal(examples.stratum, 14 - np.isnan(examples.targets[..., 0]).sum(axis=1))
    assert np.isnan(examples.targets).any()


def test_a_photograph_has_one_view_whatever_the_seed(pose: Pose) -> None:
    again = pose.examples("test", seed=7, first_view=3)
    assert np.array_equal(again.images, pose.examples("test").images)
    with pytest.raises(ValueError, match="one view, not 2"):
        pose.examples("test", views=2)
    with pytest.raises(ValueError, match="unknown split 'train'"):
        pose.examples("train")  # type: ignore[arg-type]  # the wrong name is what is tested


def test_losses_count_in_torso_lengths_up_to_one(pose: Pose) -> None:
    targets = pose.examples("test").targets[1:2]
    torso = float(pose.scale(targets)[0])
    preds = np.nan_to_num(targets.copy())
    preds[0, 3] += (0, 0.3 * torso)
    preds[0, 5] += (5 * torso, 0)
    losses = pose.true_keypoint_loss(preds, targets)
    expected = np.zeros(14)
    expected[[3, 5]] = 0.3, 1
    np.testing.assert_allclose(losses[0], expected, atol=1e-6)
    np.testing.assert_allclose(pose.true_loss(preds, targets), [1.3 / 14], atol=1e-6)


def test_joints_that_are_not_annotated_count_for_nothing(pose: Pose) -> None:
    targets = pose.examples("test").targets.copy()
    preds = np.nan_to_num(targets) + np.float32(3)
    missing = np.isnan(targets[..., 0])
    assert missing.any()
    assert np.array_equal(np.isnan(pose.true_keypoint_loss(preds, targets)), missing)
    before = pose.true_loss(preds, targets)
    preds[missing] = 1e6
    assert np.array_equal(pose.true_loss(preds, targets), before)


def test_the_fingerprint_names_the_data(pose: Pose, pose_folder: Path, tmp_path: Path) -> None:
    assert Pose(pose_folder).fingerprint == pose.fingerprint
    folder = shutil.copytree(pose_folder, tmp_path / "pose")
    entries = read_entries(folder)
    entries[0]["joints"][1][0] += 0.5
    write_labels(folder, entries)
    assert Pose(folder).fingerprint != pose.fingerprint


def test_the_skeleton_joins_neighbours() -> None:
    limbs = {frozenset((JOINTS[a], JOINTS[b])) for a, b in SKELETON}
    assert frozenset(("left_knee", "left_hip")) in limbs
    assert frozenset(("neck", "head_top")) in limbs
    assert len(limbs) == 14
