"""Pose photographs of which some are withheld: no training sees them, so later they can be what a camera sends.

folds of `train` -> head split and trunk split, as the task makes them -> two folds of the trunk are withheld, but for
near-duplicates of images that stay.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contract.near_duplicates import prints, resemble
from models.tasks.pose import FOLDS, SPLIT_SEED, Pose
from models.tasks.protocol import Examples, Split

WITHHELD = (4, 5)  # folds


class WithheldPose(Pose):
    """The task `pose` without the withheld images, which `withheld` has."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, fold=0)

    def withheld(self) -> Examples:
        """Photographs that resemble none of any split, so none that judges was ever learned from."""
        rows = self._withheld
        joints = self.photographs.joints[rows]
        annotated = np.isfinite(joints[..., 0]).sum(axis=1).astype(np.int64)
        return Examples(self.photographs.images[rows], joints, rows, annotated, self.photographs.sizes[rows])

    def _split(self, fold: int) -> dict[Split, NDArray[np.int64]]:
        splits = super()._split(fold)
        order = np.random.default_rng(SPLIT_SEED).permutation(np.flatnonzero(self.photographs.splits == "train"))
        out = np.isin(splits["trunk"], np.concatenate([np.array_split(order, FOLDS)[number] for number in WITHHELD]))
        withheld, splits["trunk"] = splits["trunk"][out], splits["trunk"][~out]
        marks = prints(self.photographs.images)
        self._withheld = withheld[~resemble(marks[withheld], marks[splits["trunk"]])]
        return splits
