"""The journal: where a flagged sample is safe before the caller reads that it was accepted.

One SQLite file with one writer thread. Appends and deletions that wait when the writer becomes free
share one transaction, hence one fsync; the event loop only waits for futures. A lock file keeps a
second process out.
"""

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from service.labelling.journal_table import Entry, Table
from service.labelling.sample import Sample

ImageFile = bytes  # as posted; a name of its own, because Journal has a property `bytes`
Found = TypeVar("Found")
DELETE_ROWS = 256  # in one transaction, so that appends need not wait for a long deletion


class JournalError(Exception):
    """Base of what can go wrong with the journal. The message is one line that says what to do."""


class JournalBusy(JournalError):  # noqa: N818 - named after the condition, as in service.errors
    """Another process has the journal."""


class JournalUnavailable(JournalError):  # noqa: N818 - as above
    """Not done: the journal is full, closed, or the disk refuses. The message says which."""


class JournalDamaged(JournalUnavailable):
    """The file is not, or no longer, a journal."""


@dataclass(frozen=True, slots=True)
class _Append:
    future: asyncio.Future[None]
    sample_id: str
    sample_json: bytes
    image: bytes
    is_audit: bool


@dataclass(frozen=True, slots=True)
class _Delete:
    future: asyncio.Future[None]
    rows: Sequence[int]


_Job = _Append | _Delete
_Outcome = JournalUnavailable | None


class Journal:
    """Made by `Journal.open`; its methods belong to one event loop. `appended` is set at every append."""

    def __init__(self, path: Path, table: Table, lock: int, *, max_bytes: int, max_rows: int) -> None:
        self.appended = asyncio.Event()
        self._path, self._table, self._lock = path, table, lock
        self._max_bytes, self._max_rows = max_bytes, max_rows
        self._closed = False
        self._reading = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_until_closed, name="journal", daemon=True)

    @classmethod
    def open(cls, folder: Path, *, max_bytes: int, max_rows: int) -> Self:
        """Opens or makes the journal in `folder`. Raises JournalBusy, JournalDamaged or JournalUnavailable."""
        path = folder / "journal.sqlite3"
        lock = _lock(folder)
        try:
            table = Table.open(path)
            _sync(folder)
        except sqlite3.OperationalError as error:
            os.close(lock)
            raise JournalUnavailable(f"{path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            os.close(lock)
            raise JournalDamaged(f"{path} is damaged ({error}): move it away to start a new journal") from error
        journal = cls(path, table, lock, max_bytes=max_bytes, max_rows=max_rows)
        journal._thread.start()
        return journal

    @property
    def rows(self) -> int:
        return self._table.rows

    @property
    def bytes(self) -> int:
        """Bytes of the samples and images in the journal; the file is somewhat larger."""
        return self._table.size_bytes

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest sample, 0 when there is none."""
        oldest_at = self._table.oldest_at
        return 0.0 if oldest_at is None else max(time.time() - oldest_at, 0.0)

    async def append(self, sample: Sample, image: ImageFile) -> None:
        """Returns once the sample is on disk. A sample that is there already is not written again.

        Unless this time it was drawn for audit: then it takes the other's place.

        Raises JournalUnavailable when the journal is full or closed, or the disk refuses.
        """
        future = asyncio.get_running_loop().create_future()
        await self._submit(_Append(future, sample.id, sample.to_json(), image, sample.lane == "audit"))

    async def delete(self, rows: Sequence[int]) -> None:
        """Raises JournalUnavailable; rows may then still be there."""
        for start in range(0, len(rows), DELETE_ROWS):
            future = asyncio.get_running_loop().create_future()
            await self._submit(_Delete(future, rows[start : start + DELETE_ROWS]))

    async def oldest(self, n: int, *, after: int = 0) -> list[Entry]:
        """The n oldest entries behind row `after`; fewer when they are large. Raises JournalUnavailable."""
        return await asyncio.to_thread(self._read, lambda: self._table.read(n, after))

    async def holds(self, sample_id: str) -> bool:
        """Whether the sample is on disk here. Raises JournalUnavailable."""
        return await asyncio.to_thread(self._read, lambda: self._table.holds(sample_id))

    async def close(self) -> None:
        """Commits what waits, then lets go of the file and the lock."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        with self._reading:
            self._table.close()
        os.close(self._lock)

    async def _submit(self, job: _Job) -> None:
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        self._jobs.put(job)
        await job.future

    def _read(self, query: Callable[[], Found]) -> Found:
        with self._reading:
            try:
                return query()
            except sqlite3.Error as error:
                raise JournalUnavailable(f"{self._path} cannot be read: {error}") from error

    def _write_until_closed(self) -> None:
        while True:
            waiting = self._waiting()
            jobs = [job for job in waiting if job is not None]
            if jobs:
                done = list(zip(jobs, self._write(jobs), strict=True))
                jobs[0].future.get_loop().call_soon_threadsafe(self._resolve, done)
            if len(jobs) < len(waiting):
                return

    def _waiting(self) -> list[_Job | None]:
        waiting = [self._jobs.get()]
        while not self._jobs.empty():
            waiting.append(self._jobs.get())
        return waiting

    def _write(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        """One transaction for all jobs; the outcome of each."""
        try:
            with self._table.transaction():
                return [self._apply(job) for job in jobs]
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told, and the thread lives on
            return [JournalUnavailable(f"{self._path} cannot be written: {error}") for _ in jobs]

    def _apply(self, job: _Job) -> _Outcome:
        table = self._table
        if isinstance(job, _Delete):
            table.delete(job.rows)
        elif (row := table.row_of(job.sample_id)) is None:
            size = len(job.sample_json) + len(job.image)
            if not table.has_room(size, max_rows=self._max_rows, max_bytes=self._max_bytes):
                return JournalUnavailable(f"{self._path} is full: {table.rows} samples, {table.size_bytes} bytes")
            table.insert(job.sample_id, job.sample_json, job.image)
        elif job.is_audit:  # in a row of its own, since the drain may have the other in hand
            table.delete([row])
            table.insert(job.sample_id, job.sample_json, job.image)
        return None

    def _resolve(self, done: Iterable[tuple[_Job, _Outcome]]) -> None:
        for job, outcome in done:
            if isinstance(job, _Append) and outcome is None:
                self.appended.set()
            if job.future.done():  # whoever waited has gone; the job is done all the same
                continue
            if isinstance(outcome, JournalUnavailable):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(None)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
