from pathlib import Path

import pytest

from tests.models.tasks.pose_photographs import write_pose_folder


@pytest.fixture(scope="session")
def pose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of the task `pose`; nobody may change it."""
    return write_pose_folder(tmp_path_factory.mktemp("pose"))
