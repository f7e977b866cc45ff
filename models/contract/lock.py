"""One writer at a time for a model's folder, over all processes that see it.

The lock is an flock, which the kernel drops when its process ends, however it ends. The lock's file stays: a deleted
one could be locked by two processes at once.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 10.0  # a change of a bundle store takes milliseconds; a longer wait means that a writer hangs
PAUSE_S = 0.02


@contextmanager
def locked(file: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Holds the lock of `file`, which is created. Raises OSError if it cannot be, and TimeoutError after wait_s."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(descriptor, time.monotonic() + wait_s, file)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, until: float, file: Path) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise TimeoutError(None, f"another process has held {file} for too long") from error
            time.sleep(PAUSE_S)  # a blocking flock has no time limit
        else:
            return
