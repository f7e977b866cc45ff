"""The lock of a model's folder, between processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.contract.lock import locked

HOLDS = """
import time
from pathlib import Path
from models.contract.lock import locked
"""


def test_a_writer_that_hangs_is_not_waited_for_without_an_end(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(TimeoutError), locked(tmp_path / "lock", wait_s=0.1):
        pass


def test_the_lock_is_free_once_its_holder_is_killed(tmp_path: Path) -> None:
    code = HOLDS + f"with locked(Path({str(tmp_path / 'lock')!r})): print(flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate(timeout=10)
    with locked(tmp_path / "lock", wait_s=5):
        pass
