"""Tasks that several tests learn: built once for all tests of `models`."""

from pathlib import Path

import pytest

from models.tasks.digits import Digits
from tests.models.tasks.pose_photographs import write_pose_folder


@pytest.fixture(scope="session")
def digits() -> Digits:
    """One for all, because it remembers what it has drawn."""
    return Digits()


@pytest.fixture(scope="session")
def pose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of the task `pose`. Shared: do not change it."""
    return write_pose_folder(tmp_path_factory.mktemp("pose"))
