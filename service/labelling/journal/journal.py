"""The journal keeps a flagged sample safe before the caller reads that it was accepted.

It also keeps endings (see `service.labelling.endings`). It is one SQLite file that one thread writes
(`service.labelling.journal.writer`). A lock file keeps other processes out.
"""

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from models.contract.durable import sync_folder
from service.labelling.journal.disk_reserve import Reserve
from service.labelling.journal.errors import JournalBusy, JournalDamaged, JournalUnavailable
from service.labelling.journal.table import Entry, KeptEnding, Table
from service.labelling.journal.writer import Writer
from service.labelling.samples.sample import Sample

Found = TypeVar("Found")
DELETE_ROWS = 256  # in one transaction, so that appends do not wait for a long deletion


class Journal:
    """Made by `Journal.open`. Its methods belong to one event loop.

    `appended` is set after a sample was appended, `kept` after an ending was kept.
    """

    def __init__(self, table: Table, writer: Writer, lock: int, *, max_bytes: int, max_rows: int) -> None:
        self.appended, self.kept = asyncio.Event(), asyncio.Event()
        self._table, self._writer, self._lock = table, writer, lock
        self._max_bytes, self._max_rows = max_bytes, max_rows
        self._closed = False
        self._reading = threading.Lock()

    @classmethod
    def open(cls, folder: Path, *, max_bytes: int, max_rows: int) -> Self:
        """Opens or makes the journal in `folder`. Raises JournalBusy, JournalDamaged or JournalUnavailable."""
        path = folder / "journal.sqlite3"
        lock = _lock(folder)
        reserve = Reserve(folder / "journal.reserve")
        try:
            table = _opened(path, reserve)
            sync_folder(folder)
        except sqlite3.OperationalError as error:
            os.close(lock)
            raise JournalUnavailable(f"{path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            os.close(lock)
            raise JournalDamaged(f"{path} is damaged ({error}): move it away to start a new journal") from error
        return cls(table, Writer(path, table, reserve), lock, max_bytes=max_bytes, max_rows=max_rows)

    @property
    def rows(self) -> int:
        return self._table.rows

    @property
    def size_bytes(self) -> int:
        """Size of all samples and images in the journal; the file is somewhat larger."""
        return self._table.size_bytes

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest sample; 0 if there is none."""
        oldest_at = self._table.oldest_at
        return 0.0 if oldest_at is None else max(time.time() - oldest_at, 0.0)

    @property
    def endings(self) -> int:
        return self._table.endings

    async def append(self, sample: Sample, image: bytes) -> None:
        """Returns once the sample is on disk. A sample that is already there is not written again.

        But if it was drawn for audit this time, it replaces the other. Raises JournalUnavailable if the journal is full
        or closed, or if the disk refuses.
        """
        data = sample.to_json()
        write = partial(self._append, sample.id, data, image, is_audit=sample.lane == "audit")
        await self._writer.write(write, takes_bytes=len(data) + len(image), wakes=self.appended)

    async def delete(self, rows: Sequence[int]) -> None:
        """Deletes samples. Raises JournalUnavailable; then rows may still be there."""
        for start in range(0, len(rows), DELETE_ROWS):
            await self._writer.write(_deletion(Table.delete, rows[start : start + DELETE_ROWS]))

    async def forget(self, sample_id: str) -> None:
        """Deletes a sample by its id, if it is there. Raises JournalUnavailable; then it may still be there."""
        await self._writer.write(partial(_forget, sample_id))

    async def keep(self, ending: bytes) -> None:
        """Returns once the ending is on disk, where it is stored at most once. Raises JournalUnavailable."""
        await self._writer.write(partial(self._keep, ending), takes_bytes=len(ending), wakes=self.kept)

    async def drop(self, rows: Sequence[int]) -> None:
        """Deletes endings. Raises JournalUnavailable; then rows may still be there."""
        if rows:
            await self._writer.write(_deletion(Table.drop, rows))

    async def oldest_endings(self, n: int, *, after: int = 0) -> list[KeptEnding]:
        """The n oldest endings after row `after`. Raises JournalUnavailable."""
        return await asyncio.to_thread(self._read, lambda: self._table.read_endings(n, after))

    async def oldest(self, n: int, *, after: int = 0) -> list[Entry]:
        """The n oldest entries after row `after`; fewer if they are large. Raises JournalUnavailable."""
        return await asyncio.to_thread(self._read, lambda: self._table.read(n, after))

    async def holds(self, sample_id: str) -> bool:
        """Whether this journal has the sample. Raises JournalUnavailable."""
        return await asyncio.to_thread(self._read, lambda: self._table.holds(sample_id))

    async def close(self) -> None:
        """Commits the writes that wait, then closes the file and releases the lock."""
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        with self._reading:
            self._table.close()
        os.close(self._lock)

    def _read(self, query: Callable[[], Found]) -> Found:
        with self._reading:
            try:
                return query()
            except sqlite3.Error as error:
                raise JournalUnavailable(f"the journal cannot be read: {error}") from error

    def _append(self, sample_id: str, sample_json: bytes, image: bytes, table: Table, *, is_audit: bool) -> str | None:
        row = table.row_of(sample_id)
        if row is None:
            size = len(sample_json) + len(image)
            if not table.has_room(size, max_rows=self._max_rows, max_bytes=self._max_bytes):
                return f"is full: {table.rows} samples, {table.size_bytes} bytes"
            table.insert(sample_id, sample_json, image)
        elif is_audit:  # in a new row, since the drain may be working on the other
            table.delete([row])
            table.insert(sample_id, sample_json, image)
        return None

    def _keep(self, ending: bytes, table: Table) -> str | None:
        if table.endings >= self._max_rows:  # counts what is committed: one transaction may exceed the limit by a few
            return f"is full: {table.endings} endings"
        table.keep(ending)
        return None


def _deletion(delete: Callable[[Table, Sequence[int]], None], rows: Sequence[int]) -> Callable[[Table], None]:
    return lambda table: delete(table, rows)


def _forget(sample_id: str, table: Table) -> None:
    if (row := table.row_of(sample_id)) is not None:
        table.delete([row])


def _opened(path: Path, reserve: Reserve) -> Table:
    """Raises sqlite3.Error."""
    try:
        return Table.open(path)
    except sqlite3.OperationalError:  # on a full disk SQLite cannot even read: it needs a file beside it
        reserve.give_up()
        return Table.open(path)


def _lock(folder: Path) -> int:
    """Descriptor of the lock file in `folder`, locked until it is closed or the process dies."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "journal.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise JournalUnavailable(f"no journal can be kept in {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise JournalBusy(f"another process has the journal in {folder}: stop it, or set LOSSCAST_STATE") from error
    return lock
