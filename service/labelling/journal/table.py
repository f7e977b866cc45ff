"""The journal's tables in SQLite: rows in the order of arrival, and counters that match the committed rows.

This module has no threads and no event loops: `service.labelling.journal.journal` adds both. It raises sqlite3.Error.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.labelling.samples.sample import Sample

READ_BYTES = 32 * 2**20  # of images in one reading, exceeded by one image at most: this bounds memory
VACUUM_PAGES = 256  # that one step gives back to the disk
_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    appended_at REAL NOT NULL,
    bytes INTEGER NOT NULL,
    sample BLOB NOT NULL,
    image BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS endings (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    kept_at REAL NOT NULL,
    ending BLOB NOT NULL UNIQUE
);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    row: int
    id: str
    sample_json: bytes
    image: bytes

    @property
    def sample(self) -> Sample:
        """Raises ValueError if the bytes are not a sample; other entries can still be read."""
        return Sample.from_json(self.sample_json)


@dataclass(frozen=True, slots=True)
class KeptEnding:
    row: int
    kept_at: float  # unix seconds
    ending: bytes


class Table:
    """One connection that writes and one that reads; each may be used by one thread at a time."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self._writer, self._reader = writer, reader
        query = "SELECT count(*), coalesce(sum(bytes), 0) FROM samples"
        self.rows: int  # committed, like the next three
        self.size_bytes: int  # of samples and images
        self.rows, self.size_bytes = writer.execute(query).fetchone()
        self._page_bytes: int = writer.execute("PRAGMA page_size").fetchone()[0]
        self.oldest_at = self._first()  # unix seconds; None when there are no rows
        self.endings: int = writer.execute("SELECT count(*) FROM endings").fetchone()[0]
        # The same, including the changes of the running transaction.
        self._rows, self._size_bytes, self._endings = self.rows, self.size_bytes, self.endings

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises sqlite3.OperationalError if the file cannot be opened, another DatabaseError if it is damaged."""
        writer = _connect(path)
        try:
            writer.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file only; see `shrink`
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("PRAGMA synchronous = FULL")
            writer.execute("PRAGMA journal_size_limit = 67108864")
            writer.execute("PRAGMA secure_delete = FAST")  # zeros over deleted data would double the writes
            _check(writer)
            writer.executescript(_SCHEMA)
            return cls(writer, _connect(path))
        except BaseException:
            writer.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits the changes made inside, or undoes them and lets the error pass. The counters follow."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield
            self._writer.execute("COMMIT")
            self.rows, self.size_bytes, self.endings = self._rows, self._size_bytes, self._endings
            self.oldest_at = self._first()
        except BaseException:
            self._rows, self._size_bytes, self._endings = self.rows, self.size_bytes, self.endings
            with suppress(sqlite3.Error):  # SQLite may have rolled back already
                self._writer.execute("ROLLBACK")
            raise

    def row_of(self, sample_id: str) -> int | None:
        """Includes the changes of the running transaction."""
        found = self._writer.execute("SELECT row FROM samples WHERE id = ?", (sample_id,)).fetchone()
        return None if found is None else int(found[0])

    def has_room(self, size_bytes: int, *, max_rows: int, max_bytes: int) -> bool:
        """Whether a sample of this size fits. Endings are few and small; a limit on their number is enough."""
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

    def keep(self, ending: bytes) -> None:
        """Uses a new row each time: whoever is settling the old row has not seen this ending."""
        self._endings -= self._writer.execute("DELETE FROM endings WHERE ending = ?", (ending,)).rowcount
        self._writer.execute("INSERT INTO endings (kept_at, ending) VALUES (?, ?)", (time.time(), ending))
        self._endings += 1

    def drop(self, rows: Sequence[int]) -> None:
        query = "DELETE FROM endings WHERE row = ?"
        self._endings -= self._writer.executemany(query, [(row,) for row in rows]).rowcount

    @property
    def free_bytes(self) -> int:
        """Size of the empty pages in the file."""
        pages: int = self._writer.execute("PRAGMA freelist_count").fetchone()[0]
        return pages * self._page_bytes

    def shrink(self) -> None:
        """Gives the WAL and some free pages back to the disk. Only a small step, since all writes wait for it."""
        self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._writer.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def holds(self, sample_id: str) -> bool:
        """Whether the sample is committed. Uses the reading connection, like `read`."""
        with closing(self._reader.execute("SELECT 1 FROM samples WHERE id = ?", (sample_id,))) as found:
            return found.fetchone() is not None

    def read(self, n: int, after: int) -> list[Entry]:
        """The first n entries after row `after`; fewer, but at least two, once their images reach READ_BYTES."""
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

    def read_endings(self, n: int, after: int) -> list[KeptEnding]:
        """The first n endings after row `after`. Uses the reading connection."""
        query = "SELECT row, kept_at, ending FROM endings WHERE row > ? ORDER BY row LIMIT ?"
        with closing(self._reader.execute(query, (after, n))) as found:
            return [KeptEnding(*values) for values in found]

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
