"""The server of the labelling queue and of the drift ledger: one client for both, and one set of errors.

`service.app` opens it and closes it. The queue and the ledger register their Lua scripts here. Each script may be
repeated without harm, and gets every key it touches as KEYS, all under one hash tag.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
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
from service.redis.client import Client, as_cluster, close, open_client, reconnect, without_secrets

CLUSTER_ADVICE = "give the service the redis:// address of a node in place of a socket"
_NUMBERS = (Path(__file__).parent / "lua" / "numbers.lua").read_text()
# Replies about the server's condition, not about the request: waiting helps.
_CONDITIONS = ("MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED")  # codes without a class of their own in redis-py


class OutOfMemory(Unavailable):
    """The server is at its maxmemory: it refuses commands that need more memory, and accepts others."""


class RedisServer:
    def __init__(self, client: Redis, url: str, timeout_s: float) -> None:
        self.client: Client = client  # used directly, it raises redis-py's own errors; see `connected`
        self.where = without_secrets(url)
        self._url, self._timeout_s = url, timeout_s
        self._is_looked_at, self._looking = False, asyncio.Lock()

    @classmethod
    def open(cls, url: str, timeout_s: float) -> Self:
        """url: redis://, rediss:// or unix://, or the path of a unix socket. Connects on first use.

        If the server is part of a cluster, the whole cluster is used. Raises ValueError for another kind of URL.
        """
        return cls(open_client(url, timeout_s), url, timeout_s)

    async def close(self) -> None:
        await close(self.client)

    def register(self, lua: str) -> AsyncScript:
        """lua: a script, which may use the functions of `numbers.lua`."""
        return self.client.register_script(f"{_NUMBERS}\n{lua}")

    async def run(self, script: AsyncScript, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """The script's reply. Raises Unavailable or OutOfMemory."""
        async with self.connected() as client:
            return await script(keys, arguments, client)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """The client. Its errors are raised as Unavailable or OutOfMemory."""
        try:
            yield await self._connected()
        except TimeoutError as error:
            raise Unavailable(f"the queue's server {self.where} does not get its writes to disk") from error
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise Unavailable(f"the queue's server {self.where} does not answer: {_line(error)}") from error
        except (RedisClusterException, ClusterError) as error:  # it has no node for the keys, or none that answers
            raise Unavailable(f"the cluster of {self.where} is not ready: {_line(error)}") from error
        except ReadOnlyError as error:  # a failover
            await reconnect(self.client)
            raise Unavailable(f"the queue's server {self.where} is read-only: {_line(error)}") from error
        except NoScriptError as error:  # the server was replaced between loading and running
            raise Unavailable(f"the queue's server {self.where} lost its scripts: {_line(error)}") from error
        except ResponseError as error:
            if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in str(error):
                raise OutOfMemory(f"the queue's server {self.where} is out of memory") from error
            if isinstance(error, AskError):  # MOVED as well
                raise Unavailable(
                    f"{self.where} is one of several nodes of a Redis Cluster: {CLUSTER_ADVICE}"
                ) from error
            if isinstance(error, TryAgainError) or str(error).startswith(_CONDITIONS):
                raise Unavailable(f"the queue's server {self.where} is not ready: {_line(error)}") from error
            raise

    async def _connected(self) -> Client:
        """The first use finds out whether the server is part of a cluster."""
        if self._is_looked_at:
            return self.client
        async with self._looking:
            if not self._is_looked_at and isinstance(self.client, Redis):
                alone = self.client
                if cluster := await as_cluster(alone, self._url, self._timeout_s):
                    self.client = cluster
                    await alone.aclose()
            self._is_looked_at = True
        return self.client


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
