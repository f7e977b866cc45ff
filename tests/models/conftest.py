"""Tasks that several tests learn: built once for all tests of `models`."""

from pathlib import Path

import pytest

from models.tasks.digits import Digits
from models.tasks.protocol import Examples, Split
from tests.models.tasks.pose_photographs import write_pose_folder


class RememberedDigits(Digits):
    """Draws each set of canvases once and hands out the same arrays again: drawing is most of a short training."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn: dict[tuple[Split, int, int, int], Examples] = {}

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        key = (split, views, seed, first_view)
        if key not in self._drawn:
            self._drawn[key] = super().examples(*key)
        return self._drawn[key]


@pytest.fixture(scope="session")
def digits() -> Digits:
    return RememberedDigits()


@pytest.fixture(scope="session")
def pose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of the task `pose`. Shared: do not change it."""
    return write_pose_folder(tmp_path_factory.mktemp("pose"))
