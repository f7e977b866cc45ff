"""A folder where nothing can be written for a while."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only(store: Path) -> Iterator[Path]:
    """A bundle store with the model `tiny`. For root, only a mount is read-only; the test is skipped without one."""
    if os.geteuid():
        (store / "tiny").chmod(0o555)
        try:
            yield store
        finally:
            (store / "tiny").chmod(0o755)
        return
    mounted = subprocess.run(["mount", "--bind", store, store], capture_output=True, check=False)  # noqa: S607 - wherever it is
    if mounted.returncode:
        pytest.skip("nothing can be mounted here, and root may write everywhere else")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", store], check=True)  # noqa: S607 - as above
        yield store
    finally:
        subprocess.run(["umount", "--lazy", store], check=True)  # noqa: S607 - as above
