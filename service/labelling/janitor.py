"""The janitor: what has to happen to the queue by and by, without a request that asks for it.

In this order: expired leases end; what is past retention is forgotten; what the queue discarded is deleted
from the blob store; erasures that were cut off are finished; old labels move into archives; and once a day
images are discarded that no sample has. What gives memory and disk back comes first, and a step that fails
does not keep the others from their work. Each step may be done twice or by several replicas at
once: an image or an archive has a name that is never used again, so deleting it late harms nothing.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

from service.labelling.queue.redis_queue import RedisQueue

log = logging.getLogger(__name__)
EVERY_S = 5.0
ORPHANS_EVERY_S = 86_400.0
CHUNK = 500  # samples or blobs by one call of a script
GARBAGE = 10_000  # blobs that share one wait for the server's disk
_IMAGE = re.compile(r".*/[0-9a-f]{32}-[0-9]+", re.ASCII)


class Janitor:
    """Counters for whoever watches: `deleted` blobs, `errors` of steps, `last_error` in words."""

    def __init__(self, queue: RedisQueue) -> None:
        self.deleted = 0
        self.errors = 0
        self.last_error: str | None = None
        self._queue, self._scripts, self._blobs = queue, queue.scripts, queue.blobs
        self._orphans_due_s: dict[str, float] = {}  # by model, by the event loop's clock
        self._failing: dict[tuple[str, str], str] = {}  # by model and step: how it failed last time

    async def run(self, models: Callable[[], Iterable[str]]) -> None:
        """Tidies until cancelled, for the models that there are by then. What goes wrong is counted and tried again."""
        while True:
            for model in models():
                await self.tidy(model)
            await asyncio.sleep(EVERY_S)

    async def tidy(self, model: str) -> None:
        """One round. A step that fails is counted, and logged when it did not fail so before."""
        steps: list[Callable[[str], Awaitable[object]]] = [
            *(self._queue.sweep, self._forget, self._delete_garbage),
            *(self._queue.archive.erase_pending, self._fill_archives, self._discard_orphans_daily),
        ]
        for step in steps:
            of = (model, step.__name__.strip("_"))
            try:
                await step(model)
                self._failing.pop(of, None)
            except Exception as error:  # noqa: BLE001 - the next round tries again
                self._note(of, error)

    async def discard_orphans(self, model: str) -> int:
        """Discards images of this queue that no sample has: an arrival was cut off, or the server forgot it.

        A server that lost all its data is another queue, and leaves the images of the first alone.
        """
        born = await self._scripts.run("born", model, [])
        if not born:
            return 0
        found = 0
        async for names in self._blobs.names(f"images/{model}/{born.decode()}/"):
            images = [name for name in names if _IMAGE.fullmatch(name)]
            found += int(await self._scripts.run("orphans", model, images))
        return found

    async def _forget(self, model: str) -> None:
        while await self._scripts.run("forget", model, [CHUNK]) >= CHUNK:
            pass

    async def _fill_archives(self, model: str) -> None:
        while await self._queue.archive.fill(model):
            pass

    async def _discard_orphans_daily(self, model: str) -> None:
        if asyncio.get_running_loop().time() >= self._orphans_due_s.get(model, 0.0):
            await self.discard_orphans(model)
            self._orphans_due_s[model] = asyncio.get_running_loop().time() + ORPHANS_EVERY_S

    async def _delete_garbage(self, model: str) -> None:
        """Only what the server would still know to be garbage after a crash: else it had samples without images."""
        while listed := await self._garbage(model, "+inf"):
            await self._queue.until_durable([model])
            settled = await self._garbage(model, listed[-1][1])  # without what it forgot meanwhile
            for start in range(0, len(settled), CHUNK):
                await self._delete(model, settled[start : start + CHUNK])
            if len(listed) < GARBAGE:
                return

    async def _garbage(self, model: str, latest: bytes | str) -> list[tuple[bytes, bytes]]:
        """Name and mark of each."""
        found = await self._scripts.run("garbage", model, [GARBAGE, latest])
        return list(zip(found[::2], found[1::2], strict=True))

    async def _delete(self, model: str, garbage: Sequence[tuple[bytes, bytes]]) -> None:
        """Deletes first and then says so: a crash in between costs one more deletion.

        What cannot be deleted is put off, so that it never stands before the others.
        """
        outcomes = await self._blobs.delete_all([name.decode() for name, _ in garbage])
        failed = [pair for pair, error in zip(garbage, outcomes, strict=True) if error]
        await self._scripts.run("deleted", model, [part for pair in garbage if pair not in failed for part in pair])
        self.deleted += len(garbage) - len(failed)
        if failed:
            await self._scripts.run("undeleted", model, [part for pair in failed for part in pair])
            raise next(filter(None, outcomes))

    def _note(self, of: tuple[str, str], error: Exception) -> None:
        self.errors += 1
        self.last_error = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if self._failing.get(of) != self.last_error:
            log.warning("the janitor of %s failed to %s, and will try again: %s", *of, self.last_error)
        self._failing[of] = self.last_error
