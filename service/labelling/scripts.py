"""The queue's server and the Lua scripts that run there (folder `lua`), one for each operation.

Each script is atomic and harmless when it is repeated, reads the server's clock, and gets every key it
touches as KEYS, all under one hash tag. Trouble with the server is raised as Unavailable.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import Unavailable
from service.labelling.policy import QueuePolicy
from service.labelling.queue import QueueOutOfMemory

SETTLE_TIMEOUT_S = 10.0  # for the disk, before and after the grace
GRACE_S = 2.0  # within it a server with appendfsync everysec starts an fsync for what was written
POLL_S = 0.02
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
    def __init__(self, client: Redis, where: str, policy: QueuePolicy) -> None:
        self._client = client
        self._where = where
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

        Every script may be run twice, so a lost connection is tried once more at once; a timeout is
        not, because it has used up the caller's time. Raises ValueError for another kind of URL.
        """
        retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.1), 1, (RedisConnectionError,))
        address = url if "://" in url else f"unix://{quote(url)}"
        client = Redis.from_url(
            address, retry=retry, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, health_check_interval=0
        )
        return cls(client, _without_secrets(address), policy)

    async def close(self) -> None:
        await self._client.aclose()

    async def ping(self) -> None:
        async with self._translated():
            await cast("Any", self._client.ping())

    async def run(self, name: str, model: str, arguments: Sequence[Any]) -> Any:
        """The reply of script `name`. Raises Unavailable or QueueOutOfMemory."""
        async with self._translated():
            return await self._scripts[name](keys=_keys(model), args=[self._policy_json, *arguments])

    async def sample(self, model: str, sample_id: str) -> bytes | None:
        """JSON of a sample. Raises Unavailable."""
        async with self._translated():
            return cast("bytes | None", await cast("Any", self._client.hget(_key(model, "samples"), sample_id)))

    async def settle(self) -> None:
        """Waits until a server with appendfsync everysec has fsynced all that was written before the call.

        While no fsync is under way the server starts one within a second of a write; so when none was
        at the start of GRACE_S and none is at its end, one has come and gone in between. WAITAOF would
        say it sooner, but from Redis 7.4 on it may answer before the fsync (redis/redis#13793; Valkey
        9.1 still does). Raises Unavailable when the disk does not get there within SETTLE_TIMEOUT_S.
        """
        async with self._translated():
            await self._idle()
            await asyncio.sleep(GRACE_S)
            await self._idle()

    async def _idle(self) -> None:
        """Returns when all that the server has written so far is with the disk, as far as it can tell."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while True:
                state = await self._client.info("persistence")
                if state.get("aof_last_write_status", "ok") != "ok":
                    raise Unavailable(f"the queue's server {self._where} cannot write its append-only file")
                if not state.get("aof_pending_bio_fsync") and not state.get("aof_buffer_length"):
                    return
                await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise Unavailable(f"the queue's server {self._where} does not get its writes to disk") from error
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise Unavailable(f"the queue's server {self._where} does not answer: {_line(error)}") from error
        except ReadOnlyError as error:  # a failover: the addresses must be looked up again
            await self._client.connection_pool.disconnect()
            raise Unavailable(f"the queue's server {self._where} is read-only: {_line(error)}") from error
        except NoScriptError as error:  # the server was replaced between loading and running
            raise Unavailable(f"the queue's server {self._where} lost its scripts: {_line(error)}") from error
        except ResponseError as error:
            if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in str(error):
                raise QueueOutOfMemory(f"the queue's server {self._where} is out of memory") from error
            if isinstance(error, ClusterDownError | TryAgainError) or str(error).startswith(_CONDITIONS):
                raise Unavailable(f"the queue's server {self._where} is not ready: {_line(error)}") from error
            raise


def _key(model: str, name: str) -> str:
    return f"losscast:{{{model}}}:queue:{name}"


def _keys(model: str) -> list[str]:
    return [_key(model, name) for name in _KEYS]


def _without_secrets(url: str) -> str:
    return url.split("://", 1)[1].rsplit("@", 1)[-1].split("?", 1)[0]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
