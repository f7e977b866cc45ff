"""The journal's writer is one thread, so that callers on an event loop wait for the disk without blocking others.

All jobs that wait when the thread becomes free share one transaction, so they need one fsync. When the disk is full, or
would be full, the writer gives up the reserve and does only jobs that need no room of their own, until there is room
again.
"""

import asyncio
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.labelling.journal.disk_reserve import Reserve
from service.labelling.journal.errors import JournalUnavailable
from service.labelling.journal.table import Table

# The WAL's index is a file as well: if it cannot grow, SQLite reports an I/O error.
_DISK_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}

MAX_WAITING_BYTES = 128 * 2**20  # of images in memory that wait for a slow disk


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    future: asyncio.Future[None]
    apply: Callable[[Table], str | None]  # runs in the transaction; returns a reason to refuse, or None
    takes_bytes: int  # of the disk; 0 for a job that frees room
    wakes: asyncio.Event | None = None  # set when the job is done


_Outcome = JournalUnavailable | None


class Writer:
    """Its public methods belong to one event loop."""

    def __init__(self, path: Path, table: Table, reserve: Reserve) -> None:
        self._path, self._table, self._reserve = path, table, reserve
        self._closed = False
        self._waiting_bytes = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_until_closed, name="journal", daemon=True)
        self._thread.start()

    async def write(
        self, apply: Callable[[Table], str | None], *, takes_bytes: int = 0, wakes: asyncio.Event | None = None
    ) -> None:
        """Returns once the changes of `apply` are on disk. Raises JournalUnavailable, also for the reason that it
        gives.
        """
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        if takes_bytes and self._waiting_bytes + takes_bytes > MAX_WAITING_BYTES:
            raise JournalUnavailable(f"{self._path} cannot be written: {self._waiting_bytes} bytes wait for its disk")
        future = asyncio.get_running_loop().create_future()
        self._waiting_bytes += takes_bytes
        self._jobs.put(_Job(future, apply, takes_bytes, wakes))
        await future

    async def close(self) -> None:
        """Commits the jobs that wait."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _write_until_closed(self) -> None:
        while True:
            waiting = self._waiting()
            jobs = [job for job in waiting if job is not None]
            if jobs:
                done = list(zip(jobs, self._outcomes(jobs), strict=True))
                jobs[0].future.get_loop().call_soon_threadsafe(self._resolve, done)
            if len(jobs) < len(waiting):
                return

    def _waiting(self) -> list[_Job | None]:
        waiting = [self._jobs.get()]
        while not self._jobs.empty():
            waiting.append(self._jobs.get())
        return waiting

    def _outcomes(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        try:
            return self._write(jobs)
        except Exception as error:  # noqa: BLE001 - callers must learn of any error, and the thread must live on
            return [self._refusal(error) for _ in jobs]

    def _write(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        """Does the jobs that there is room for, and those that need none. Refuses the others."""
        chosen = _fitting(jobs, self._room_bytes())
        outcomes = self._committed(chosen)
        if any(map(_is_disk_full, outcomes)):
            self._reserve.give_up()
            self._shrink()
            chosen = [job for job in chosen if not job.takes_bytes]
            outcomes = self._committed(chosen)
        if len(chosen) < len(jobs):
            self._shrink()
        done = dict(zip(map(id, chosen), outcomes, strict=True))
        full = JournalUnavailable(f"{self._path} cannot be written: its disk is full")
        return [done.get(id(job), full) for job in jobs]

    def _room_bytes(self) -> int:
        """Room for jobs. Data is written twice: into the WAL, then into the file, unless that has free pages."""
        try:
            free = shutil.disk_usage(self._path.parent).free if self._reserve.take() else 0
        except OSError:
            return 0
        return min(free, (free + self._table.free_bytes) // 2)

    def _committed(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        """Runs all jobs in one transaction. Returns the outcome of each."""
        try:
            with self._table.transaction():
                reasons = [job.apply(self._table) for job in jobs]
        except Exception as error:  # noqa: BLE001 - one bad job undoes the transaction, and all its callers must learn of it
            return [self._refusal(error) for _ in jobs]
        return [JournalUnavailable(f"{self._path} {reason}") if reason else None for reason in reasons]

    def _refusal(self, error: Exception) -> JournalUnavailable:
        refusal = JournalUnavailable(f"{self._path} cannot be written: {error}")
        refusal.__cause__ = error
        return refusal

    def _shrink(self) -> None:
        with suppress(sqlite3.Error):  # the next deletion tries again
            self._table.shrink()

    def _resolve(self, done: Iterable[tuple[_Job, _Outcome]]) -> None:
        for job, outcome in done:
            self._waiting_bytes -= job.takes_bytes
            if job.wakes and outcome is None:
                job.wakes.set()
            if job.future.done():  # the caller has gone; the job is done anyway
                continue
            if isinstance(outcome, JournalUnavailable):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(None)


def _fitting(jobs: Sequence[_Job], room_bytes: int) -> list[_Job]:
    """The jobs that fit, in their order. A large job that does not fit does not stop a smaller one after it."""
    chosen = []
    for job in jobs:
        if job.takes_bytes <= room_bytes or not job.takes_bytes:
            room_bytes -= job.takes_bytes
            chosen.append(job)
    return chosen


def _is_disk_full(outcome: _Outcome) -> bool:
    error = outcome.__cause__ if outcome else None
    return isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in _DISK_FULL
