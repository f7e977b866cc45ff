"""A parent, a small task and a snapshot that the tests of refinement share. Do not change them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.snapshot import Row, Split
from models.refinement.config import RefinementConfig
from models.refinement.fine_tuning import Refined, fine_tune
from models.tasks.digits import Digits
from models.tasks.protocol import Split as TaskSplit
from models.training.config import silent
from models.training.loop import Trainer
from tests.models.refinement.snapshots import png, row_of, write_folder

ROOT = Path(__file__).resolve().parents[3]
SIZES: dict[TaskSplit, int] = {"trunk": 40, "head": 20, "calibration": 110, "test": 20}
COUNTS: dict[Split, int] = {"train": 24, "calibrate": 80, "judge": 4, "watch": 4}
# A few images forget much: here any mixture is allowed.
QUICK = RefinementConfig(steps=20, pairs=8, learning_rate=2e-3, mixtures=(0.5,), forgotten=1.0, head_effort=0.1)


class FewDigits(Digits):
    """The task of the shipped digits with a few images, one view of each."""

    calibration_views = test_views = 1

    def sources(self, split: TaskSplit) -> NDArray[np.int64]:
        return super().sources(split)[: SIZES[split]]


@pytest.fixture(scope="session")
def parent() -> Path:
    return ROOT / "bundles" / "digits" / "1"


@pytest.fixture(scope="session")
def few_digits() -> Digits:
    return FewDigits()


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory, few_digits: Digits) -> Path:
    """Negatives of digits with their true corners, in all splits."""
    seen = few_digits.examples("trunk", 4, first_view=500)
    rows: list[Row] = []
    images: list[bytes] = []
    for split, count in COUNTS.items():
        for _ in range(count):
            place = len(rows)
            images.append(png(255 - seen.images[place]))
            rows.append(row_of(place, images[-1], seen.targets[place].astype(float).tolist(), split))
    folder = tmp_path_factory.mktemp("snapshots") / "digits"
    return write_folder(folder, "digits", few_digits.task, rows, images)


@pytest.fixture(scope="session")
def quick() -> RefinementConfig:
    """Seconds instead of a minute."""
    return replace(QUICK)


@pytest.fixture(scope="session")
def refined(parent: Path, few_digits: Digits, snapshot: Path, quick: RefinementConfig) -> Refined:
    return fine_tune(parent, few_digits, snapshot, quick, silent, Trainer.start())
