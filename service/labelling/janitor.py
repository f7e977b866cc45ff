"""The janitor does the upkeep of the queue that no request asks for.

In this order: it ends expired leases, forgets samples past their retention, deletes discarded blobs from the blob
store, finishes erasures that were cut off, moves old labels into archives, and once a day discards images that no
sample has. Steps that give memory and disk back come first. A step that fails does not keep the others from their
work. Each step may be repeated, also by several replicas at once: an image or an archive has a name that is never used
again, so a late deletion harms nothing.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from service.background import Failures
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.label_queue import Garbage, QueueUpkeep

log = logging.getLogger(__name__)
EVERY_S = 5.0
ORPHANS_EVERY_S = 86_400.0
GARBAGE = 10_000  # blobs that share one wait for the server's disk
CHUNK = 500  # blobs deleted at a time
_IMAGE = re.compile(r".*/[0-9a-f]{32}-[0-9]+", re.ASCII)


class Janitor:
    """Counters for whoever watches: `deleted` blobs, and `failures` of steps."""

    def __init__(self, queue: QueueUpkeep, blobs: BlobStore) -> None:
        self.deleted = 0
        self.failures = Failures(log)
        self._queue, self._blobs = queue, blobs
        self._orphans_due_s: dict[str, float] = {}  # by model, by the event loop's clock

    async def run(self, models: Callable[[], Iterable[str]]) -> None:
        """Tidies until cancelled. models: called in each round, for the models that there are by then."""
        while True:
            for model in models():
                await self.tidy(model)
            await asyncio.sleep(EVERY_S)

    async def tidy(self, model: str) -> None:
        """One round. A step that fails is counted and logged; the next round tries it again."""
        steps: dict[str, Callable[[str], Awaitable[object]]] = {
            "end leases": self._queue.sweep,
            "forget samples": self._queue.forget,
            "delete blobs": self._delete_garbage,
            "finish erasures": self._queue.finish_erasures,
            "archive labels": self._fill_archives,
            "discard orphans": self._discard_orphans_daily,
        }
        for name, step in steps.items():
            with suppress(Exception), self.failures.noted(f"the janitor of {model} ({name})"):
                await step(model)

    async def discard_orphans(self, model: str) -> int:
        """Discards images of this queue that no sample has: an arrival was cut off, or the server forgot it."""
        folder = await self._queue.image_folder(model)
        if folder is None:
            return 0
        found = 0
        async for names in self._blobs.names(folder):
            found += await self._queue.discard_orphans(model, [name for name in names if _IMAGE.fullmatch(name)])
        return found

    async def _fill_archives(self, model: str) -> None:
        while await self._queue.fill_archive(model):
            pass

    async def _discard_orphans_daily(self, model: str) -> None:
        if asyncio.get_running_loop().time() >= self._orphans_due_s.get(model, 0.0):
            await self.discard_orphans(model)
            self._orphans_due_s[model] = asyncio.get_running_loop().time() + ORPHANS_EVERY_S

    async def _delete_garbage(self, model: str) -> None:
        """Deletes only blobs that the server would still list after a crash: else it had samples without images."""
        while listed := await self._queue.garbage(model, GARBAGE):
            await self._queue.until_durable([model])
            settled = await self._queue.garbage(model, GARBAGE, until=listed[-1])  # a crash may have taken some off
            for start in range(0, len(settled), CHUNK):
                await self._delete(model, settled[start : start + CHUNK])
            if len(listed) < GARBAGE:
                return

    async def _delete(self, model: str, garbage: Sequence[Garbage]) -> None:
        """Deletes first and then says so: a crash in between costs one more deletion.

        A blob that cannot be deleted is put off, so that it does not stand before the others.
        """
        outcomes = await self._blobs.delete_all([one.name for one in garbage])
        failed = [one for one, error in zip(garbage, outcomes, strict=True) if error]
        await self._queue.deleted(model, [one for one in garbage if one not in failed])
        self.deleted += len(garbage) - len(failed)
        if failed:
            await self._queue.not_deleted(model, failed)
            raise next(filter(None, outcomes))
