"""Labels for good: the beginning of the label stream, as NDJSON objects in the blob store.

The stream in the queue's server holds the newest labels with their samples; older ones move into
archives of ARCHIVE_LABELS. An archive counts from the moment in which the server notes its name and
takes its labels off the stream, in one step; one that was written and does not come to count is garbage.
No archive is ever changed: to take a label out, a new one takes its place.
"""

import secrets
from collections.abc import Sequence
from typing import Any

import orjson

from service.errors import NotFound
from service.labelling.blobs import BlobStore
from service.labelling.queue import LabelPage, LabelRecord
from service.labelling.sample import Sample
from service.labelling.scripts import Scripts

ARCHIVE_LABELS = 1000
ARCHIVE_AGE_S = 86_400.0  # labels do not wait longer for an archive to be full


class Archive:
    def __init__(self, scripts: Scripts, blobs: BlobStore) -> None:
        self._scripts, self._blobs = scripts, blobs

    async def page(self, model: str, cursor: str, n: int) -> LabelPage:
        """Up to n labels behind the cursor, from archives and then from the stream."""
        labels: list[LabelRecord] = []
        while len(labels) < n:
            found = await self._behind(model, cursor, n - len(labels))
            if not found:
                break
            labels += found
            cursor = found[-1].cursor
        return LabelPage(labels, cursor)

    async def fill(self, model: str) -> bool:
        """Moves the beginning of the stream into an archive when it is long or old enough. Whether it did."""
        age_us = min(ARCHIVE_AGE_S, self._scripts.policy.retention_s) * 1e6
        labels = _records(await self._scripts.run("archivable", model, [ARCHIVE_LABELS, repr(age_us)]))
        if not labels:
            return False
        name = await self._write(model, labels)
        span = [labels[0].cursor, labels[-1].cursor, len(labels)]
        return bool(await self._scripts.run("archived", model, [name, *span]))

    async def erase(self, model: str, sample_id: str) -> None:
        """Takes the labels of an erased sample out of their archives, then notes that it is done."""
        await self._take_out(model, sample_id)
        await self._scripts.run("unarchived", model, [sample_id])

    async def erase_pending(self, model: str) -> None:
        """Finishes erasures that were cut off."""
        for sample_id in (await self._scripts.run("erasures", model, [100]))[::2]:
            await self.erase(model, sample_id.decode())

    async def erase_forgotten(self, model: str, sample_id: str) -> bool:
        """The same for a sample that the queue has forgotten. Whether there was a label."""
        return await self._take_out(model, sample_id)

    async def _take_out(self, model: str, sample_id: str) -> bool:
        """Reads all archives: to erase is rare, and a sample can have been labelled, forgotten and labelled again."""
        is_found = False
        for name in await self._scripts.run("archives", model, []):
            labels = await self._read(name.decode())
            kept = [record for record in labels if record.sample.id != sample_id]
            if len(kept) < len(labels):
                is_found = True
                await self._replace(model, sample_id, name.decode(), kept)
        return is_found

    async def _replace(self, model: str, sample_id: str, name: str, kept: Sequence[LabelRecord]) -> None:
        successor = await self._write(model, kept) if kept else ""
        if not await self._scripts.run("replaced", model, [name, successor]):
            await self._take_out(model, sample_id)  # somebody else has replaced it meanwhile
        await self._blobs.delete([name])

    async def _behind(self, model: str, cursor: str, n: int) -> list[LabelRecord]:
        while True:
            found = await self._scripts.run("labels", model, [cursor, n, f"{_folder(model)}{_sortable(cursor)}~"])
            if isinstance(found, list):
                return _records(found)
            try:
                labels = await self._read(found.decode())
            except NotFound:  # replaced since: ask again
                continue
            return [record for record in labels if _order(record.cursor) > _order(cursor)][:n]

    async def _write(self, model: str, labels: Sequence[LabelRecord]) -> str:
        """The name of a new archive, which is garbage until it comes to count."""
        first, last = _sortable(labels[0].cursor), _sortable(labels[-1].cursor)
        name = f"{_folder(model)}{last}_{first}_{secrets.token_hex(4)}.ndjson"
        await self._scripts.run("discard", model, [name])
        await self._blobs.put(name, b"".join(map(_line, labels)), "application/x-ndjson")
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
    """From cursor, annotator, label and sample JSON of each."""
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
