"""The labelling queue: puts samples in, leases them out by value, takes their labels.

`LabelQueue` is the contract; `RedisQueue` keeps it with one Lua script per operation (folder `lua`).
Each script is atomic and idempotent under retry (put by sample id, lease and label by the client's
token), reads the server's clock, and gets every key it touches as KEYS.
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self, cast
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

from service.errors import BadRequest, Conflict, NotFound, Unavailable
from service.labelling.sample import Sample

LabelState = Literal["accepted", "repeated"]

MAX_LEASE = 1000  # samples in one lease
SETTLE_TIMEOUT_S = 10.0  # for the disk, before and after the grace
GRACE_S = 2.0  # within it a server with appendfsync everysec starts an fsync for what was written
POLL_S = 0.02
# Replies that speak of the server's condition and not of the request: waiting helps.
_CONDITIONS = ("MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED")  # codes without a class of their own in redis-py
# In the order of keys.lua.
_KEYS = ("samples", "states", "pending", "leased", "leases", "holders", "held", "receipts", "labels", "counts")
_LUA = Path(__file__).parent / "lua"


class QueueOutOfMemory(Unavailable):
    """The server is at its maxmemory: samples stay in the journal; leasing and labelling go on."""


@dataclass(frozen=True, slots=True)
class Leased:
    sample: Sample
    lease_expires_at: float  # unix seconds, by the server's clock


@dataclass(frozen=True, slots=True)
class LabelRecord:
    cursor: str  # its place in the order of labels
    sample: Sample
    annotator: str
    label: Any  # JSON, as it was given
    labelled_at: float  # unix seconds, by the server's clock


@dataclass(frozen=True, slots=True)
class LabelPage:
    labels: list[LabelRecord]
    cursor: str  # where the next page starts


class LabelQueue(Protocol):
    """Every operation is atomic, and harmless when it is repeated. All raise Unavailable."""

    async def put(self, samples: Sequence[Sample]) -> frozenset[str]:
        """Adds what is not known yet; what is over a bound is evicted, the least valuable first.

        Returns the ids whose image the blob store may have lost since it was announced: to be announced
        again. Raises QueueOutOfMemory.
        """

    async def settle(self, samples: Sequence[Sample]) -> frozenset[str]:
        """The ids of those that were put and would survive a crash of the server from here on."""

    async def lease(self, model: str, n: int, annotator: str, token: str, lease_s: float) -> list[Leased]:
        """Up to n samples, shared among the lanes, most valuable (or oldest, in the audit lane) first.

        To a token that was used, those it still holds. Fewer when the hour's budget is spent.
        """

    async def extend(self, model: str, annotator: str, token: str, lease_s: float) -> list[Leased]:
        """What the token still holds, from now on for lease_s."""

    async def label(self, model: str, sample_id: str, annotator: str, token: str, label: Any) -> LabelState:
        """Takes the label, also one that comes late. Raises NotFound, or Conflict when the sample is finished."""

    async def skip(self, model: str, sample_id: str, annotator: str, token: str) -> None:
        """Gives the sample back; this annotator never gets it again. Raises NotFound or Conflict."""

    async def reject(self, model: str, sample_id: str, annotator: str, token: str, reason: str) -> None:
        """Takes the sample off the queue as not usable. Raises NotFound or Conflict."""

    async def sweep(self, model: str) -> int:
        """Returns samples whose lease ran out, or buries them after max_expiries. How many there were."""

    async def requeue(self, model: str, sample_ids: Sequence[str] | None) -> int:
        """Returns dead letters, all or those named, with their expiries forgotten. How many there were."""

    async def erase(self, model: str, sample_id: str) -> bool:
        """Removes the sample, its label and its image everywhere. False when it is unknown."""

    async def labels(self, model: str, cursor: str, n: int) -> LabelPage:
        """Up to n labels behind the cursor ("" for the start), in the order in which they came. Raises BadRequest."""

    async def stats(self, model: str) -> dict[str, int]:
        """Counts of one moment.

        Where samples are: accepted = pending + leased + labelled + rejected + dead + evicted + erased. Events: expired,
        duplicates. Of the pending: pending_audit, pending_ood, oldest_age_s. Else: bytes of the images that wait or are
        leased, budget_left this hour (-1: no limit).
        """

    async def get(self, model: str, sample_id: str) -> Sample:
        """The sample, until it is evicted, erased or forgotten. Raises NotFound."""


class RedisQueue:
    """LabelQueue on Redis 6.2 or later, or Valkey. Trouble with the server is raised as Unavailable."""

    def __init__(self, client: Redis, where: str) -> None:
        self._client = client
        self._where = where
        head = (_LUA / "keys.lua").read_text()
        self._scripts = {
            name: client.register_script(head + (_LUA / f"{name}.lua").read_text())
            for name in ("put", "held", "lease", "label", "stats")
        }

    @classmethod
    def open(cls, url: str, timeout_s: float = 2.0) -> Self:
        """url: redis://, rediss:// or unix://, or the path of a unix socket. Connects on first use.

        Every script may be run twice, so a lost connection is tried once more at once; a timeout is
        not, because it has used up the caller's time. Raises ValueError for another kind of URL.
        """
        retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.1), 1, (RedisConnectionError,))
        address = url if "://" in url else f"unix://{quote(url)}"
        client = Redis.from_url(
            address, retry=retry, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, health_check_interval=0
        )
        return cls(client, _without_secrets(address))

    async def ping(self) -> None:
        """Raises Unavailable when the server does not answer in time."""
        async with self._translated():
            await cast("Any", self._client.ping())

    async def close(self) -> None:
        await self._client.aclose()

    async def put(self, samples: Sequence[Sample]) -> None:
        if any(not math.isfinite(sample.value) for sample in samples):
            raise ValueError("a sample's value must be finite")
        async with self._translated():
            for model, group in _by_model(samples).items():
                arguments = [part for sample in group for part in (sample.id, repr(sample.value), sample.to_json())]
                await self._run("put", model, arguments)

    async def settle(self, samples: Sequence[Sample]) -> frozenset[str]:
        """Waits until a server with appendfsync everysec has fsynced the puts, then asks whether it has them.

        While no fsync is under way the server starts one within a second of a write; so when none was
        at the start of GRACE_S and none is at its end, one has come and gone in between. WAITAOF would
        say it sooner, but from Redis 7.4 on it may answer before the fsync (redis/redis#13793; Valkey
        9.1 still does). Raises Unavailable when the disk does not get there within SETTLE_TIMEOUT_S.
        """
        held: set[str] = set()
        async with self._translated():
            await self._idle()
            await asyncio.sleep(GRACE_S)
            await self._idle()
            for model, group in _by_model(samples).items():
                known = await self._run("held", model, [sample.id for sample in group])
                held |= {sample_id.decode() for sample_id in known}
        return frozenset(held)

    async def lease(self, model: str, n: int, annotator: str, token: str, lease_s: float) -> list[Leased]:
        if not 1 <= n <= MAX_LEASE:
            raise BadRequest(f"n must be between 1 and {MAX_LEASE}")
        if not 0 < lease_s < math.inf:
            raise BadRequest("a lease must last longer than 0 s")
        async with self._translated():
            reply = await self._run("lease", model, [n, annotator, token, repr(float(lease_s))])
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [Leased(Sample.from_json(sample), float(expires_at)) for sample, expires_at in pairs]

    async def label(self, model: str, sample_id: str, annotator: str, token: str, label: Any) -> LabelState:
        text = orjson.dumps(label, option=orjson.OPT_SORT_KEYS)
        receipt = hashlib.sha256(orjson.dumps([annotator, token, text.decode()])).hexdigest()
        async with self._translated():
            reply = await self._run("label", model, [sample_id, annotator, token, text, receipt])
        match reply:
            case b"accepted":
                return "accepted"
            case b"repeated":
                return "repeated"
            case b"conflict":
                raise Conflict(f"sample {sample_id} has a label already; the first one stays")
        raise NotFound(f"no sample {sample_id} in the queue of model {model}")

    async def stats(self, model: str) -> dict[str, int]:
        async with self._translated():
            reply = await self._run("stats", model, [])
        return {name.decode(): count for name, count in zip(reply[::2], reply[1::2], strict=True)}

    async def get(self, model: str, sample_id: str) -> Sample:
        async with self._translated():
            data = await cast("Any", self._client.hget(_keys(model)[0], sample_id))
        if data is None:
            raise NotFound(f"no sample {sample_id} in the queue of model {model}")
        return Sample.from_json(data)

    async def _run(self, script: str, model: str, arguments: Sequence[Any]) -> Any:
        return await self._scripts[script](keys=_keys(model), args=arguments)

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


def _keys(model: str) -> list[str]:
    return [f"losscast:{{{model}}}:{name}" for name in _KEYS]


def _by_model(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.model, []).append(sample)
    return groups


def _without_secrets(url: str) -> str:
    return url.split("://", 1)[1].rsplit("@", 1)[-1].split("?", 1)[0]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
