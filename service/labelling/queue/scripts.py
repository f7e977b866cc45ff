"""The Lua scripts of the queue (folder `lua`), one for each operation, and the server they run on.

Each script is atomic, may be repeated without harm, and reads the server's clock. It gets every key it touches as KEYS,
all under one hash tag. Trouble with the server is raised as Unavailable.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import orjson
from redis.asyncio.cluster import ClusterNode

from service.errors import Unavailable
from service.labelling.queue.policy import QueuePolicy
from service.redis.client import Client, node_of, persistence
from service.redis.server import RedisServer

SETTLE_TIMEOUT_S = 10.0  # for the disk, before GRACE_S and again after it
GRACE_S = 2.0  # within this time a server with appendfsync everysec starts an fsync for all that was written
POLL_S = 0.02
_LUA = Path(__file__).parent / "lua"
_HEADS = ("keys", "items", "bounds", "leases", "records")  # put before every script, in this order
# In the order of keys.lua.
_KEYS = (
    *("items", "samples", "predicted_loss", "ood_score", "audit", "ages", "sources", "leased", "leases", "holders"),
    *("holdings", "skips", "dead", "receipts", "labels", "archives", "arriving", "finished", "garbage", "erasures"),
    *("tombstones", "bookmarks", "counts"),
)


class Scripts:
    def __init__(self, server: RedisServer, policy: QueuePolicy) -> None:
        self.server = server
        self.policy = policy
        self._policy_json = orjson.dumps(asdict(policy))
        head = "\n".join((_LUA / f"{name}.lua").read_text() for name in _HEADS)
        self._scripts = {
            file.stem: server.register(f"{head}\n{file.read_text()}")
            for file in _LUA.glob("*.lua")
            if file.stem not in _HEADS
        }

    async def run(self, name: str, model: str, arguments: Sequence[Any]) -> Any:
        """The reply of script `name`. Raises Unavailable or OutOfMemory."""
        return await self.server.run(self._scripts[name], _keys(model), [self._policy_json, *arguments])

    async def sample(self, model: str, sample_id: str) -> bytes | None:
        """JSON of a sample. Raises Unavailable."""
        async with self.server.connected() as client:
            return cast("bytes | None", await cast("Any", client.hget(_key(model, "samples"), sample_id)))

    async def settle(self, models: Iterable[str]) -> None:
        """Waits until the server has fsynced all earlier writes for these models (appendfsync everysec).

        While no fsync runs, the server starts one within a second of a write. So if none runs at the start of GRACE_S
        and none runs at its end, one has run in between. WAITAOF would answer sooner, but from Redis 7.4 on it may
        answer before the fsync (redis/redis#13793; Valkey 9.1 still does). Raises Unavailable if the disk takes longer
        than SETTLE_TIMEOUT_S.
        """
        keys = [_key(model, "items") for model in models]
        async with self.server.connected() as client:
            nodes = [await node_of(client, key) for key in keys]
            await self._idle(client, nodes)
            await asyncio.sleep(GRACE_S)
            await self._idle(client, nodes)
            if [await node_of(client, key) for key in keys] != nodes:
                raise Unavailable(f"the queue moved to another node of the cluster of {self.server.where}")

    async def _idle(self, client: Client, nodes: Iterable[ClusterNode | None]) -> None:
        """Returns when no node has an fsync running or writes that wait for one."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            for node in {node.name if node else None: node for node in nodes}.values():
                await self._idle_node(client, node)

    async def _idle_node(self, client: Client, node: ClusterNode | None) -> None:
        while True:
            state = await persistence(client, node)
            if state.get("aof_last_write_status", "ok") != "ok":
                raise Unavailable(f"the queue's server {self.server.where} cannot write its append-only file")
            if not state.get("aof_pending_bio_fsync") and not state.get("aof_buffer_length"):
                return
            await asyncio.sleep(POLL_S)


def _key(model: str, name: str) -> str:
    return f"losscast:{{{model}}}:queue:{name}"


def _keys(model: str) -> list[str]:
    return [_key(model, name) for name in _KEYS]
