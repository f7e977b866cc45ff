"""A queue with a server connection of its own, for tests: opened by URL, and closed with the queue."""

from typing import Any, Self, cast

from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.redis_queue import DEFAULTS, RedisQueue
from service.redis.server import RedisServer


class OwnQueue(RedisQueue):
    def __init__(self, server: RedisServer, blobs: BlobStore, policy: QueuePolicy = DEFAULTS) -> None:
        super().__init__(server, blobs, policy)
        self.server = server

    @classmethod
    def open(cls, url: str, blobs: BlobStore, policy: QueuePolicy = DEFAULTS, timeout_s: float = 2.0) -> Self:
        """Url and errors: see RedisServer.open."""
        return cls(RedisServer.open(url, timeout_s), blobs, policy)

    async def close(self) -> None:
        await self.server.close()

    async def ping(self) -> None:
        """Raises Unavailable when the server does not answer in time."""
        async with self.server.connected() as client:
            await cast("Any", client).ping()
