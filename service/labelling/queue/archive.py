"""Archives keep labels for good: NDJSON objects in the blob store that hold the beginning of the label stream.

The stream in the queue's server holds the newest labels with their samples. Older labels move into archives of
ARCHIVE_LABELS each. An archive is valid from the moment in which the server notes its name and takes its labels off the
stream, in one step. An archive that is written but never becomes valid is garbage. An archive is never changed: to take
a label out, a new archive replaces the old one.
"""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import orjson

from service.errors import NotFound, Unavailable
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.label_queue import LabelPage, LabelRecord
from service.labelling.queue.scripts import Scripts
from service.labelling.samples.sample import Sample

ARCHIVE_LABELS = 1000
ARCHIVE_AGE_S = 86_400.0  # labels wait no longer for their archive to be full


class Archive:
    def __init__(self, scripts: Scripts, blobs: BlobStore) -> None:
        self._scripts, self._blobs = scripts, blobs

    async def page(self, model: str, cursor: str, n: int) -> LabelPage:
        """Up to n labels after the cursor, from archives first and then from the stream."""
        labels: list[LabelRecord] = []
        while len(labels) < n:
            found = await self._behind(model, cursor, n - len(labels))
            if not found:
                break
            labels += found
            cursor = found[-1].cursor
        return LabelPage(labels, cursor)

    async def fill(self, model: str) -> bool:
        """Moves the beginning of the stream into an archive if it is long or old enough. Whether it did."""
        age_us = min(ARCHIVE_AGE_S, self._scripts.policy.retention_s) * 1e6
        labels = _records(await self._scripts.run("archivable", model, [ARCHIVE_LABELS, repr(age_us)]))
        if not labels:
            return False
        name = await self._write(model, list(map(_line, labels)))
        span = [labels[0].cursor, labels[-1].cursor, len(labels)]
        return bool(await self._scripts.run("archived", model, [name, *span]))

    async def erase(self, model: str, sample_id: str) -> bool:
        """Takes the labels of an erased sample out of the archives, then notes that this is done. Whether there were
        any.

        Reads all archives: erasures are rare, and a sample may have been labelled, forgotten and labelled again. Raises
        Unavailable; then the erasure stays noted and the janitor tries again.
        """
        is_found, seen, missing = False, set[str](), set[str]()
        listed = await self._names(model)
        while unseen := [name for name in listed if name not in seen]:
            seen.update(unseen)
            for name in unseen:
                try:
                    is_found |= await self._take_out(model, sample_id, name)
                except NotFound:  # replaced since, or lost
                    missing.add(name)
            listed = await self._names(model)
        for name in missing.intersection(listed):
            raise _missing(name)
        await self._scripts.run("unarchived", model, [sample_id])
        return is_found

    async def erase_pending(self, model: str) -> None:
        """Finishes erasures that were cut off."""
        for sample_id in (await self._scripts.run("erasures", model, [100]))[::2]:
            await self.erase(model, sample_id.decode())

    async def _names(self, model: str) -> list[str]:
        return [name.decode() for name in await self._scripts.run("archives", model, [])]

    async def _take_out(self, model: str, sample_id: str, name: str) -> bool:
        """Whether there was a label. A new archive replaces the old one, unless another replica was faster."""
        lines = (await self._blobs.get(name)).splitlines(keepends=True)
        kept = await asyncio.to_thread(_without, lines, sample_id)
        if len(kept) == len(lines):
            return False
        successor = await self._write(model, kept) if kept else ""
        await self._scripts.run("replaced", model, [name, successor])
        return True

    async def _behind(self, model: str, cursor: str, n: int) -> list[LabelRecord]:
        lost = b""
        while True:
            found = await self._scripts.run("labels", model, [cursor, n, f"{_folder(model)}{_sortable(cursor)}~"])
            if isinstance(found, list):
                return _records(found)
            if found == lost:
                raise _missing(found.decode())
            try:
                labels = await self._read(found.decode())
            except NotFound:  # replaced since: ask again
                lost = found
                continue
            return [record for record in labels if _order(record.cursor) > _order(cursor)][:n]

    async def _write(self, model: str, lines: Sequence[bytes]) -> str:
        """Writes a new archive and returns its name. It is garbage until it becomes valid."""
        first, last = (_sortable(_record(line).cursor) for line in (lines[0], lines[-1]))
        name = f"{_folder(model)}{last}_{first}_{secrets.token_hex(4)}.ndjson"
        await self._scripts.run("discard", model, [name])
        await self._blobs.put(name, b"".join(lines), "application/x-ndjson")
        return name

    async def _read(self, name: str) -> list[LabelRecord]:
        return [_record(line) for line in (await self._blobs.get(name)).splitlines()]


def _folder(model: str) -> str:
    return f"labels/{model}/"


def _order(cursor: str) -> tuple[int, int]:
    time_ms, _, sequence = (cursor or "0-0").partition("-")
    return int(time_ms), int(sequence)


def _sortable(cursor: str) -> str:
    time_ms, sequence = _order(cursor)
    return f"{time_ms:016d}-{sequence:016d}"


def _records(reply: Sequence[bytes]) -> list[LabelRecord]:
    """reply: cursor, annotator, label and sample JSON of each label."""
    found: list[LabelRecord] = []
    for i in range(0, len(reply), 4):
        cursor, annotator, label, sample = reply[i : i + 4]
        time_s = _order(cursor.decode())[0] / 1000
        fields: tuple[Any, ...] = (annotator.decode(), orjson.loads(label), time_s)
        found.append(LabelRecord(cursor.decode(), Sample.from_json(sample), *fields))
    return found


def _line(record: LabelRecord) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _record(line: bytes) -> LabelRecord:
    fields = orjson.loads(line)
    return LabelRecord(**{**fields, "sample": Sample.from_json(orjson.dumps(fields["sample"]))})


def _without(lines: Sequence[bytes], sample_id: str) -> list[bytes]:
    """Parses only the lines that contain the id."""
    return [line for line in lines if sample_id.encode() not in line or _record(line).sample.id != sample_id]


def _missing(name: str) -> Unavailable:
    return Unavailable(f"archive {name} is missing from the blob store: restore it")
