"""The queue's server and the Lua scripts that run there (folder `lua`), one for each operation.

Each script is atomic and harmless when it is repeated, reads the server's clock, and gets every key it
touches as KEYS, all under one hash tag. Trouble with the server is raised as Unavailable.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

import orjson
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import (
    AskError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import Unavailable
from service.labelling.cluster import (
    Client,
    as_cluster,
    close,
    node_of,
    open_client,
    persistence,
    reconnect,
    without_secrets,
)
from service.labelling.policy import QueuePolicy
from service.labelling.queue import QueueOutOfMemory

SETTLE_TIMEOUT_S = 10.0  # for the disk, before and after the grace
GRACE_S = 2.0  # within it a server with appendfsync everysec starts an fsync for what was written
POLL_S = 0.02
CLUSTER_ADVICE = "give the service the redis:// address of a node in place of a socket"
# Replies that speak of the server's condition and not of the request: waiting helps.
_CONDITIONS = ("MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED")  # codes without a class of their own in redis-py
_LUA = Path(__file__).parent / "lua"
_HEADS = ("keys", "items", "bounds", "leases", "records")  # before every script, in this order
# In the order of keys.lua.
_KEYS = (
    *("items", "samples", "predicted_loss", "ood_score", "audit", "ages", "sources", "leased", "leases", "holders"),
    *("holdings", "skips", "dead", "receipts", "labels", "archives", "arriving", "finished", "garbage", "erasures"),
    *("tombstones", "bookmarks", "counts"),
)


class Scripts:
    def __init__(self, client: Redis, url: str, policy: QueuePolicy, timeout_s: float) -> None:
        self._client: Client = client
        self._url, self._where, self._timeout_s = url, without_secrets(url), timeout_s
        self._is_looked_at, self._looking = False, asyncio.Lock()
        self.policy = policy
        self._policy_json = orjson.dumps(asdict(policy))
        head = "\n".join((_LUA / f"{name}.lua").read_text() for name in _HEADS)
        self._scripts = {
            file.stem: client.register_script(f"{head}\n{file.read_text()}")
            for file in _LUA.glob("*.lua")
            if file.stem not in _HEADS
        }

    @classmethod
    def open(cls, url: str, policy: QueuePolicy, timeout_s: float) -> Self:
        """url: redis://, rediss:// or unix://, or the path of a unix socket. Connects on first use.

        When the server says that it is part of a cluster, that is used. Raises ValueError for another kind of URL.
        """
        return cls(open_client(url, timeout_s), url, policy, timeout_s)

    async def close(self) -> None:
        await close(self._client)

    async def ping(self) -> None:
        async with self._translated() as client:
            await cast("Any", client.ping())

    async def run(self, name: str, model: str, arguments: Sequence[Any]) -> Any:
        """The reply of script `name`. Raises Unavailable or QueueOutOfMemory."""
        async with self._translated() as client:
            return await self._scripts[name](_keys(model), [self._policy_json, *arguments], client)

    async def sample(self, model: str, sample_id: str) -> bytes | None:
        """JSON of a sample. Raises Unavailable."""
        async with self._translated() as client:
            return cast("bytes | None", await cast("Any", client.hget(_key(model, "samples"), sample_id)))

    async def settle(self, models: Iterable[str]) -> None:
        """Waits until servers with appendfsync everysec have fsynced all that was written for the models before.

        While no fsync is under way the server starts one within a second of a write; so when none was
        at the start of GRACE_S and none is at its end, one has come and gone in between. WAITAOF would
        say it sooner, but from Redis 7.4 on it may answer before the fsync (redis/redis#13793; Valkey
        9.1 still does). Raises Unavailable when the disk does not get there within SETTLE_TIMEOUT_S.
        """
        keys = [_key(model, "items") for model in models]
        async with self._translated() as client:
            nodes = [await node_of(client, key) for key in keys]
            await self._idle(client, nodes)
            await asyncio.sleep(GRACE_S)
            await self._idle(client, nodes)
            if [await node_of(client, key) for key in keys] != nodes:
                raise Unavailable(f"the queue moved to another node of the cluster of {self._where}")

    async def _idle(self, client: Client, nodes: Iterable[ClusterNode | None]) -> None:
        """Returns when all that the nodes have written so far is with their disks, as far as they can tell."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            for node in {node.name if node else None: node for node in nodes}.values():
                await self._idle_node(client, node)

    async def _idle_node(self, client: Client, node: ClusterNode | None) -> None:
        while True:
            state = await persistence(client, node)
            if state.get("aof_last_write_status", "ok") != "ok":
                raise Unavailable(f"the queue's server {self._where} cannot write its append-only file")
            if not state.get("aof_pending_bio_fsync") and not state.get("aof_buffer_length"):
                return
            await asyncio.sleep(POLL_S)

    async def _connected(self) -> Client:
        """At the first use it is seen whether the server is part of a cluster."""
        if self._is_looked_at:
            return self._client
        async with self._looking:
            if not self._is_looked_at and isinstance(self._client, Redis):
                alone = self._client
                if cluster := await as_cluster(alone, self._url, self._timeout_s):
                    self._client = cluster
                    await alone.aclose()
            self._is_looked_at = True
        return self._client

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[Client]:
        """The client to be used; what goes wrong with it is raised as our own."""
        try:
            yield await self._connected()
        except TimeoutError as error:
            raise Unavailable(f"the queue's server {self._where} does not get its writes to disk") from error
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise Unavailable(f"the queue's server {self._where} does not answer: {_line(error)}") from error
        except (RedisClusterException, ClusterError) as error:  # it has no node for the keys, or none that answers
            raise Unavailable(f"the cluster of {self._where} is not ready: {_line(error)}") from error
        except ReadOnlyError as error:  # a failover
            await reconnect(self._client)
            raise Unavailable(f"the queue's server {self._where} is read-only: {_line(error)}") from error
        except NoScriptError as error:  # the server was replaced between loading and running
            raise Unavailable(f"the queue's server {self._where} lost its scripts: {_line(error)}") from error
        except ResponseError as error:
            if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in str(error):
                raise QueueOutOfMemory(f"the queue's server {self._where} is out of memory") from error
            if isinstance(error, AskError):  # MOVED as well
                raise Unavailable(
                    f"{self._where} is one of several nodes of a Redis Cluster: {CLUSTER_ADVICE}"
                ) from error
            if isinstance(error, TryAgainError) or str(error).startswith(_CONDITIONS):
                raise Unavailable(f"the queue's server {self._where} is not ready: {_line(error)}") from error
            raise


def _key(model: str, name: str) -> str:
    return f"losscast:{{{model}}}:queue:{name}"


def _keys(model: str) -> list[str]:
    return [_key(model, name) for name in _KEYS]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
