"""The task `pose`: 14 joints of an athlete, from a folder of photographs that the user names.

The file's own splits are kept. A fixed permutation divides `train` into `FOLDS` folds: one is the head split, the
others are the trunk split, so trunks of different folds hold out different images. When two splits contain
near-duplicates, they are removed from the earlier split, in the order trunk, head, calibration, test.
"""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contract import manifest
from models.contract.loss_definition import KeypointLoss
from models.contract.near_duplicates import prints, resemble
from models.tasks.pose_data import read_photographs
from models.tasks.protocol import SPLITS, Examples, Split
from models.tasks.torso import fit_torso_scale

FOLDS = 6
SPLIT_SEED = 20212  # decides the folds, independent of the training seed
FAILURE_LEVEL = 0.5
LARGEST_LOSS = 1.0
JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
)  # fmt: skip
SKELETON = (
    (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11), (12, 13),
    (8, 2), (9, 3),
)  # fmt: skip

CARD = """\
Leeds Sports Pose Extended (S. Johnson and M. Everingham, *Learning Effective Human Pose Estimation from Inaccurate
Annotation*, CVPR 2011, <https://doi.org/10.1109/CVPR.2011.5995318>): photographs of parkour, gymnastics and athletics
from Flickr, one person each, with 14 joints annotated on Mechanical Turk. Research data, not part of this package; the
annotations are noisy, and so is every figure below. Crops are letterboxed onto 128x128 pixels. The loss of a joint is
its error in torso lengths, at most 1; that of an image is the mean over its annotated joints. The torso length is the
longer annotated diagonal (shoulder to opposite hip), else an estimate from the other limbs."""


class Pose:
    """The `RegressionTask` over a folder of pose photographs; stratum is the number of annotated joints.

    fold: which sixth of `train` is the head split, 0 to `FOLDS` - 1; the rest is the trunk's.
    """

    task = manifest.Task(name="pose", kind="keypoints", names=JOINTS, units=("px",), skeleton=SKELETON)
    preprocessing = manifest.Preprocessing(height=128, width=128, channels=3)
    loss = manifest.Loss(
        name="mean joint error, at most 1", unit="torso lengths", failure_level=FAILURE_LEVEL, bound=LARGEST_LOSS
    )
    calibration_views = test_views = 1

    def __init__(self, data: Path, fold: int = 0) -> None:
        if not 0 <= fold < FOLDS:
            raise ValueError(f"the fold is a number from 0 to {FOLDS - 1}, not {fold}")
        self.photographs = read_photographs(data, self.preprocessing)
        if self.photographs.names != JOINTS:
            raise ValueError(f"{data} has other joints than {', '.join(JOINTS)}")
        self.near_duplicates: dict[Split, int] = {}
        self._sources = self._split(fold)
        empty = [split for split in SPLITS if not len(self._sources[split])]
        if empty:
            raise ValueError(f"{data} leaves no image for {', '.join(empty)}")
        # From all of `train`, so that losses are the same in every fold.
        self.scale = fit_torso_scale(JOINTS, self.photographs.joints[self.photographs.splits == "train"])
        self._definition = KeypointLoss(scale=self.scale, cap=LARGEST_LOSS)
        self.loss = self.loss.model_copy(update={"definition": self._definition})

    @property
    def card(self) -> str:
        """See `RegressionTask.card`."""
        removed = ", ".join(f"{count} from {split}" for split, count in self.near_duplicates.items())
        return (
            f"{CARD}\n\nLeft out: {self.photographs.without_joints} images without an annotated joint, "
            f"{self.photographs.outside} annotations\nwell outside their frame, and images nearly the same as one of a "
            f"later split ({removed})."
        )

    def sources(self, split: Split) -> NDArray[np.int64]:
        """Rows of `photographs` that belong to a split. Raises ValueError on an unknown split."""
        if split not in self._sources:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
        return self._sources[split]

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        """The photographs of a split as they are; `seed` and `first_view` change nothing.

        Raises ValueError on an unknown split and for any number of views but one.
        """
        del seed, first_view
        if views != 1:
            raise ValueError(f"a photograph has one view, not {views}")
        rows = self.sources(split)
        joints = self.photographs.joints[rows]
        annotated = np.isfinite(joints[..., 0]).sum(axis=1).astype(np.int64)
        return Examples(self.photographs.images[rows], joints, rows, annotated, self.photographs.sizes[rows])

    def true_keypoint_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """preds, targets: [n, 14, 2] in canvas pixels -> [n, 14] in torso lengths, at most 1; NaN as in targets."""
        return self._definition.each(preds, targets)

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """See `RegressionTask.true_loss`: the mean over annotated joints of `true_keypoint_loss`, [n]."""
        return self._definition(preds, targets)

    @cached_property
    def fingerprint(self) -> str:
        """Covers the labels, the image files, the splits and the canvas coordinates in hundredths of a pixel."""
        digest = hashlib.sha256(self.photographs.digest.encode())
        digest.update(self.preprocessing.model_dump_json().encode())
        for split in SPLITS:
            digest.update(self._sources[split].astype("<i8").tobytes())
        digest.update(np.rint(100 * np.nan_to_num(self.photographs.joints, nan=-1e4)).astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    def _split(self, fold: int) -> dict[Split, NDArray[np.int64]]:
        splits = self._raw_split(fold)
        marks = prints(self.photographs.images)
        for number, split in enumerate(SPLITS[:-1]):
            later = np.concatenate([splits[other] for other in SPLITS[number + 1 :]])
            twin = resemble(marks[splits[split]], marks[later])
            self.near_duplicates[split] = int(twin.sum())
            splits[split] = splits[split][~twin]
        return splits

    def _raw_split(self, fold: int) -> dict[Split, NDArray[np.int64]]:
        mine = {name: np.flatnonzero(self.photographs.splits == name) for name in ("train", "calibration", "test")}
        order = np.random.default_rng(SPLIT_SEED).permutation(mine["train"])
        folds = np.array_split(order, FOLDS)
        trunk = np.concatenate([part for number, part in enumerate(folds) if number != fold])
        return {
            "trunk": np.sort(trunk),
            "head": np.sort(folds[fold]),
            "calibration": mine["calibration"],
            "test": mine["test"],
        }
