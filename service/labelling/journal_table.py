"""The journal's table in SQLite: rows in order of arrival, with counters that match what is committed.

Knows nothing of threads or event loops; raises sqlite3.Error. `service.labelling.journal` gives it both.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.labelling.sample import Sample

READ_BYTES = 32 * 2**20  # most bytes of images in one reading, give or take one, so that memory stays bounded
_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    appended_at REAL NOT NULL,
    bytes INTEGER NOT NULL,
    sample BLOB NOT NULL,
    image BLOB NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Entry:
    row: int
    id: str
    sample_json: bytes
    image: bytes

    @property
    def sample(self) -> Sample:
        """Raises ValueError when the bytes are no sample's; the other entries can be read all the same."""
        return Sample.from_json(self.sample_json)


class Table:
    """One connection that writes and one that reads; each may be used by one thread at a time."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self._writer, self._reader = writer, reader
        query = "SELECT count(*), coalesce(sum(bytes), 0) FROM samples"
        self.rows: int  # as committed, like the next two
        self.size_bytes: int  # of samples and images; the file is somewhat larger
        self.rows, self.size_bytes = writer.execute(query).fetchone()
        self.oldest_at = self._first()  # unix seconds; None when there are no rows
        self._rows, self._size_bytes = self.rows, self.size_bytes  # with what the transaction has done so far

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises sqlite3.OperationalError when the file cannot be had, another DatabaseError when it is damaged."""
        writer = _connect(path)
        try:
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("PRAGMA synchronous = FULL")
            writer.execute("PRAGMA journal_size_limit = 67108864")
            _check(writer)
            writer.execute(_SCHEMA)
            return cls(writer, _connect(path))
        except BaseException:
            writer.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits what happens inside, or undoes it and lets the error pass; the counters follow."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield
            self._writer.execute("COMMIT")
            self.rows, self.size_bytes, self.oldest_at = self._rows, self._size_bytes, self._first()
        except BaseException:
            self._rows, self._size_bytes = self.rows, self.size_bytes
            with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._writer.execute("ROLLBACK")
            raise

    def row_of(self, sample_id: str) -> int | None:
        """With what the transaction has done so far."""
        found = self._writer.execute("SELECT row FROM samples WHERE id = ?", (sample_id,)).fetchone()
        return None if found is None else int(found[0])

    def has_room(self, size_bytes: int, *, max_rows: int, max_bytes: int) -> bool:
        return self._rows + 1 <= max_rows and self._size_bytes + size_bytes <= max_bytes

    def insert(self, sample_id: str, sample_json: bytes, image: bytes) -> None:
        size = len(sample_json) + len(image)
        self._writer.execute(
            "INSERT INTO samples (id, appended_at, bytes, sample, image) VALUES (?, ?, ?, ?, ?)",
            (sample_id, time.time(), size, sample_json, image),
        )
        self._rows += 1
        self._size_bytes += size

    def delete(self, rows: Sequence[int]) -> None:
        for row in rows:
            for (size,) in self._writer.execute("DELETE FROM samples WHERE row = ? RETURNING bytes", (row,)).fetchall():
                self._rows -= 1
                self._size_bytes -= size

    def holds(self, sample_id: str) -> bool:
        """As committed; of the reading side, like `read`."""
        with closing(self._reader.execute("SELECT 1 FROM samples WHERE id = ?", (sample_id,))) as found:
            return found.fetchone() is not None

    def read(self, n: int, after: int) -> list[Entry]:
        """The first n entries behind row `after`; fewer, but two, when their images come to READ_BYTES."""
        entries: list[Entry] = []
        size = 0
        query = "SELECT row, id, sample, image FROM samples WHERE row > ? ORDER BY row LIMIT ?"
        with closing(self._reader.execute(query, (after, n))) as found:  # an open cursor would pin the WAL
            for values in found:
                entries.append(Entry(*values))
                size += len(entries[-1].image)
                if size >= READ_BYTES and len(entries) > 1:
                    break
        return entries

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _first(self) -> float | None:
        found = self._writer.execute("SELECT appended_at FROM samples ORDER BY row LIMIT 1").fetchone()
        return None if found is None else float(found[0])


def _check(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
