"""The janitor: what has to happen to the queue by and by, without a request that asks for it.

In this order: expired leases end; old labels move into archives; erasures that were cut off are finished;
what is past retention is forgotten; what the queue discarded is deleted from the blob store; and once
a day images are discarded that no sample has. Each step may be done twice or by several replicas at
once: an image or an archive has a name that is never used again, so deleting it late harms nothing.
"""

import asyncio
import re
from collections.abc import Sequence

from service.labelling.redis_queue import RedisQueue

EVERY_S = 5.0
ORPHANS_EVERY_S = 86_400.0
CHUNK = 500  # samples or blobs by one call of a script
_IMAGE = re.compile(r".*/[0-9a-f]{32}-[0-9]+", re.ASCII)


class Janitor:
    """Counters for whoever watches: `deleted` blobs, `errors` met, `last_error` in words."""

    def __init__(self, queue: RedisQueue, models: Sequence[str]) -> None:
        self.deleted = 0
        self.errors = 0
        self.last_error: str | None = None
        self._queue, self._scripts, self._blobs = queue, queue.scripts, queue.blobs
        self._models = models
        self._orphans_due_s: dict[str, float] = {}  # by model, by the event loop's clock

    async def run(self) -> None:
        """Tidies until cancelled. Whatever goes wrong is counted and tried again."""
        while True:
            for model in self._models:
                try:
                    await self.tidy(model)
                except Exception as error:  # noqa: BLE001 - the next round tries again
                    self.errors += 1
                    self.last_error = f"{type(error).__name__}: {' '.join(str(error).split())}"
            await asyncio.sleep(EVERY_S)

    async def tidy(self, model: str) -> None:
        """One round. Raises Unavailable."""
        await self._queue.sweep(model)
        while await self._queue.archive.fill(model):
            pass
        await self._queue.archive.erase_pending(model)
        while await self._scripts.run("forget", model, [CHUNK]) >= CHUNK:
            pass
        if asyncio.get_running_loop().time() >= self._orphans_due_s.get(model, 0.0):
            await self.discard_orphans(model)
            self._orphans_due_s[model] = asyncio.get_running_loop().time() + ORPHANS_EVERY_S
        await self._delete_garbage(model)

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

    async def _delete_garbage(self, model: str) -> None:
        """Deletes first and then says so: a crash in between costs one more deletion."""
        while garbage := await self._scripts.run("garbage", model, [CHUNK]):
            names = [name.decode() for name in garbage[::2]]
            await self._blobs.delete(names)
            await self._scripts.run("deleted", model, garbage)
            self.deleted += len(names)
