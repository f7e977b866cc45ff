"""The journal reserves room on its disk, and gives it up when the disk is full, so that it can still delete.

SQLite writes before it deletes. Without this room, a journal that filled its disk could never delete drained samples,
and would stay full.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

SIZE_BYTES = 8 * 2**20  # SQLite's WAL, usually up to 4 MiB, must fit in before the file can shrink
RETRY_S = 1.0


class Reserve:
    """Belongs to one thread. The reserve is held while its file has its full size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refused_at_s: float | None = None
        self.is_held = False

    def take(self) -> bool:
        """Tries to get the reserve, but not within RETRY_S of a refusal. Whether it is held."""
        if self.is_held or self._was_just_refused():
            return self.is_held
        try:
            self._write()
        except OSError:
            self.give_up()
            self._refused_at_s = time.monotonic()
            return False
        self.is_held, self._refused_at_s = True, None
        return True

    def give_up(self) -> None:
        """Raises nothing: if the file cannot be unlinked, the disk stays as full as it was."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.is_held, self._refused_at_s = False, None

    def _was_just_refused(self) -> bool:
        return self._refused_at_s is not None and time.monotonic() < self._refused_at_s + RETRY_S

    def _write(self) -> None:
        if self._path.exists() and self._path.stat().st_size == SIZE_BYTES:  # from the process before this one
            return
        with self._path.open("wb") as file:
            file.write(os.urandom(SIZE_BYTES))  # zeros would take no room where the file system compresses
            file.flush()
            os.fsync(file.fileno())
