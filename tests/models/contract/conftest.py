"""A bundle store whose live version changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.contract.index import ModelIndex, write_index


@pytest.fixture
def folder(tmp_path: Path, publish_version: Callable[..., None]) -> Path:
    """The folder of `tiny`, with the versions 1 to 3. Version 1 is live, without a history."""
    for version in (1, 2, 3):
        publish_version(tmp_path, version)
    write_index(tmp_path / "tiny", ModelIndex(live=1))
    return tmp_path / "tiny"
