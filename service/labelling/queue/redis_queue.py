"""LabelQueue and QueueUpkeep on Redis 6.2 or later, or Valkey: checks a request, runs its script, reads the reply.

The images and all but the newest labels are in the blob store: `service.labelling.queue.archive` works on those labels.
"""

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import orjson

from service.errors import BadRequest, Conflict, Erased, Held, NotFound
from service.labelling.queue.archive import Archive
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.label_queue import Announced, EndState, Garbage, LabelPage, Leased, Looked
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.scripts import Scripts
from service.labelling.samples.fields import put_arguments
from service.labelling.samples.sample import Sample
from service.redis.server import RedisServer

MAX_SAMPLES = 1000  # in one reply
MAX_PAGE = 10_000  # labels in one page
MAX_BYTES = 2**53  # of one image: Lua's numbers are doubles, which are exact up to here
CHUNK = 1000  # samples in one call of a script, so that it does not block other calls
DEFAULTS = QueuePolicy()
_CURSOR = re.compile(r"([0-9]{1,16}-[0-9]{1,16})?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_REFUSALS = {
    "labelled": "has a label already; the first one stays",
    "rejected": "was rejected as not usable",
    "evicted": "was evicted from the full queue; its image is gone",
    "dead": "is a dead letter: requeue it first",
    "held": "is leased to this annotator under another token",
    "leased": "is leased under another annotator or token: only who holds it may reject it",
}


class RedisQueue:
    def __init__(self, server: RedisServer, blobs: BlobStore, policy: QueuePolicy = DEFAULTS) -> None:
        """server: the caller opens it and closes it."""
        self.scripts = Scripts(server, policy)
        self.blobs = blobs
        self.archive = Archive(self.scripts, blobs)

    async def announce(self, samples: Sequence[Sample]) -> dict[str, Announced]:
        announced: dict[str, Announced] = {}
        for model, chunk in _chunks(samples):
            arguments = [part for sample in chunk for part in (sample.id, repr(sample.flagged_at))]
            reply = await self.scripts.run("announce", model, arguments)
            for sample_id, image, is_new in zip(arguments[::2], reply[::2], reply[1::2], strict=True):
                announced[sample_id] = Announced(image.decode(), bool(is_new))
        return announced

    async def put(self, samples: Sequence[Sample]) -> frozenset[str]:
        for sample in samples:
            _check(sample)
        again: set[str] = set()
        for model, chunk in _chunks(samples):
            reply = await self.scripts.run("put", model, [part for sample in chunk for part in put_arguments(sample)])
            again |= {sample_id.decode() for sample_id in reply}
        return frozenset(again)

    async def until_durable(self, models: Collection[str]) -> None:
        await self.scripts.settle(models)

    async def settle(self, samples: Sequence[Sample]) -> frozenset[str]:
        await self.until_durable({sample.model for sample in samples})
        held: set[str] = set()
        for model, chunk in _chunks(samples):
            reply = await self.scripts.run("held", model, [sample.id for sample in chunk])
            held |= {sample_id.decode() for sample_id in reply}
        return frozenset(held)

    async def lease(self, model: str, n: int, annotator: str, token: str, lease_s: float) -> list[Leased]:
        if not 1 <= n <= MAX_SAMPLES:
            raise BadRequest(f"n must be between 1 and {MAX_SAMPLES}")
        arguments = [n, annotator, token, _lease_us(lease_s)]
        return _leased(await self.scripts.run("lease", model, arguments))

    async def extend(self, model: str, annotator: str, token: str, lease_s: float) -> list[Leased]:
        return _leased(await self.scripts.run("extend", model, [annotator, token, _lease_us(lease_s)]))

    async def label(self, model: str, sample_id: str, annotator: str, token: str, label: Any) -> EndState:
        text = orjson.dumps(label, option=orjson.OPT_SORT_KEYS)
        arguments = [sample_id, annotator, token, text, _digest(annotator, token, text.decode())]
        return _ended(model, sample_id, await self.scripts.run("label", model, arguments))

    async def skip(self, model: str, sample_id: str, annotator: str, token: str) -> None:
        reply = (await self.scripts.run("skip", model, [sample_id, annotator, token])).decode()
        if reply != "skipped":
            raise _refused(model, sample_id, reply)

    async def reject(self, model: str, sample_id: str, annotator: str, token: str, reason: str) -> EndState:
        note = orjson.dumps({"annotator": annotator, "reason": reason})
        arguments = [sample_id, annotator, token, _digest(annotator, token, reason), note]
        return _ended(model, sample_id, await self.scripts.run("reject", model, arguments))

    async def sweep(self, model: str) -> int:
        return await self._in_chunks("sweep", model, [CHUNK])

    async def requeue(self, model: str, sample_ids: Sequence[str] | None) -> int:
        if sample_ids is None:
            return await self._in_chunks("requeue", model, ["all", CHUNK])
        chunks = [sample_ids[start : start + CHUNK] for start in range(0, len(sample_ids), CHUNK)]
        return sum([int(await self.scripts.run("requeue", model, ["ids", *chunk])) for chunk in chunks])

    async def erase(self, model: str, sample_id: str) -> EndState | None:
        if not _ID.fullmatch(sample_id):  # not a sample's id: no need to search the archives
            return None
        was_erased, is_in_archives, *image = await self.scripts.run("erase", model, [sample_id])
        was_labelled = is_in_archives and await self.archive.erase(model, sample_id)
        if was_erased or (was_labelled and not image):
            return "repeated"
        return "accepted" if image else None

    async def labels(self, model: str, cursor: str, n: int) -> LabelPage:
        if not _CURSOR.fullmatch(cursor):
            raise BadRequest("the cursor must be one that came with a page of labels, or nothing")
        if not 1 <= n <= MAX_PAGE:
            raise BadRequest(f"n must be between 1 and {MAX_PAGE}")
        return await self.archive.page(model, cursor, n)

    async def audits(self, model: str, start: int, n: int) -> list[Sample]:
        if not 1 <= n <= MAX_SAMPLES or start < 0:
            raise BadRequest(f"n must be between 1 and {MAX_SAMPLES}, and start 0 or more")
        found = await self.scripts.run("audits", model, [start, n])
        return [Sample.from_json(data) for data in found if data]

    async def stats(self, model: str) -> dict[str, int]:
        reply = await self.scripts.run("stats", model, [])
        return {name.decode(): count for name, count in zip(reply[::2], reply[1::2], strict=True)}

    async def get(self, model: str, sample_id: str) -> Sample:
        data = await self.scripts.sample(model, sample_id)
        if data is None:
            raise _refused(model, sample_id, "unknown")
        return Sample.from_json(data)

    async def image(self, model: str, sample_id: str) -> str:
        name = await self.scripts.run("image", model, [sample_id])
        if not name:
            raise _refused(model, sample_id, "unknown")
        return str(name.decode())

    async def look(self, model: str, sample_id: str) -> Looked:
        found = await self.scripts.run("look", model, [sample_id])
        if not found:
            raise _refused(model, sample_id, "unknown")
        data, state, note = found
        return Looked(Sample.from_json(data), state.decode(), orjson.loads(note)["reason"] if note else None)

    async def forget(self, model: str) -> int:
        return await self._in_chunks("forget", model, [CHUNK])

    async def garbage(self, model: str, n: int, until: Garbage | None = None) -> list[Garbage]:
        found = await self.scripts.run("garbage", model, [n, until.mark if until else "+inf"])
        return [Garbage(name.decode(), mark) for name, mark in zip(found[::2], found[1::2], strict=True)]

    async def deleted(self, model: str, garbage: Sequence[Garbage]) -> None:
        await self._marked("deleted", model, garbage)

    async def not_deleted(self, model: str, garbage: Sequence[Garbage]) -> None:
        await self._marked("not_deleted", model, garbage)

    async def finish_erasures(self, model: str) -> None:
        await self.archive.erase_pending(model)

    async def fill_archive(self, model: str) -> bool:
        return await self.archive.fill(model)

    async def image_folder(self, model: str) -> str | None:
        born = await self.scripts.run("born", model, [])
        return f"images/{model}/{born.decode()}/" if born else None

    async def discard_orphans(self, model: str, images: Sequence[str]) -> int:
        return int(await self.scripts.run("orphans", model, images))

    async def _marked(self, script: str, model: str, garbage: Sequence[Garbage]) -> None:
        await self.scripts.run(script, model, [part for one in garbage for part in (one.name, one.mark)])

    async def _in_chunks(self, script: str, model: str, arguments: Sequence[Any]) -> int:
        total, done = 0, CHUNK
        while done >= CHUNK:
            done = int(await self.scripts.run(script, model, arguments))
            total += done
        return total


def _check(sample: Sample) -> None:
    if not math.isfinite(sample.value):
        raise ValueError("a sample's value must be finite")
    if not 0 <= sample.bytes <= MAX_BYTES:
        raise ValueError(f"a sample's image must have between 0 and {MAX_BYTES} bytes")
    if "\0" in (sample.source or ""):
        raise ValueError("a sample's source must not hold a zero")


def _lease_us(lease_s: float) -> str:
    if not 0 < lease_s < math.inf:
        raise BadRequest("a lease must last longer than 0 s")
    return repr(lease_s * 1e6)


def _leased(reply: Sequence[bytes]) -> list[Leased]:
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return [Leased(Sample.from_json(sample), float(expires_at)) for sample, expires_at in pairs]


def _ended(model: str, sample_id: str, reply: bytes) -> EndState:
    match reply.decode():
        case "accepted":
            return "accepted"
        case "repeated":
            return "repeated"
        case refusal:
            raise _refused(model, sample_id, refusal)


def _digest(*parts: str) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _refused(model: str, sample_id: str, state: str) -> NotFound | Conflict:
    if state in _REFUSALS:
        refusal = Held if state in {"held", "leased"} else Conflict
        return refusal(f"sample {sample_id} {_REFUSALS[state]}")
    if state == "erased":
        return Erased(f"sample {sample_id} of model {model} was erased")
    return NotFound(f"no sample {sample_id} in the queue of model {model}")


def _chunks(samples: Iterable[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    """The samples by model, at most CHUNK at a time."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.model, []).append(sample)
    for model, group in groups.items():
        for start in range(0, len(group), CHUNK):
            yield model, group[start : start + CHUNK]
