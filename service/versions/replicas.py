"""Which version of each model every replica serves, on the queue's Redis server: is a promotion done everywhere?

A version goes live here -> said at once -> said again every BEAT_S -> forgotten FORGET_S after the last word. Times are
by the server's clock, so the clocks of replicas do not matter. Nothing waits for this: while the server is away, the
service starts and predicts as ever, and the replicas do not know of each other.
"""

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.background import Failures
from service.redis.server import RedisServer
from service.versions.registry import Registry

log = logging.getLogger(__name__)

BEAT_S: Final = 2.0
AWAY_S: Final = 3 * BEAT_S  # of silence: such a replica is not counted as serving, whatever its last word was
FORGET_S: Final = 30.0  # of silence: such a replica is taken for gone, and nobody waits for it
KEEP_S: Final = 120.0  # in the server: a replica that falls silent while a change waits for it must stay known
LOOK_S: Final = 0.1  # between two looks while a change waits
LOST: Final = "other replicas are not known yet: the queue's server has lost what they said"
_LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Replica:
    """What one replica said last."""

    name: str
    version: str | None  # that it serves; None: the model has no version that works there
    silent_s: float  # since then

    def serves(self, version: str) -> bool:
        return self.version == version and self.silent_s < AWAY_S


@dataclass(frozen=True, slots=True)
class Round:
    """Every replica that is known to serve the model, by name."""

    replicas: Sequence[Replica]
    unseen: str | None = None  # why there may be others

    def is_complete(self, version: str) -> bool:
        """Whether every replica says that it serves the version."""
        return self.unseen is None and all(replica.serves(version) for replica in self.replicas)


def new_name() -> str:
    """Host, process and a random part: containers may all have the same host name and process number."""
    host = "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter in "-._")
    return f"{host or 'replica'}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class Replicas:
    def __init__(self, server: RedisServer, models: Registry, name: str | None = None) -> None:
        self.name = name or new_name()
        self._server, self._models = server, models
        self._script = server.register((_LUA / "say.lua").read_text())
        self._failures = Failures(log)
        self._said = set[str]()  # models that the server knows from this replica
        self._lost = dict[str, float]()  # model -> when the server had forgotten this replica

    async def run(self) -> None:
        """Says what is served here, at once after each change, until cancelled."""
        log.info("this replica is %s", self.name)
        while True:
            self._models.moved.clear()
            # A failure is noted, and it is said again at the next beat.
            with suppress(Exception), self._failures.noted("telling other replicas what is served here"):
                await self._say_all()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._models.moved.wait(), BEAT_S)

    async def close(self, timeout_s: float) -> None:
        """Leaves, so that no promotion waits for this replica. A server that does not answer in time is left alone."""
        with suppress(Exception):
            async with asyncio.timeout(timeout_s):
                for model in list(self._said):
                    await self._leave(model)

    async def wait(self, model: str, version: str, wait_s: float, is_over: Callable[[], bool]) -> Round:
        """Waits until every replica serves the version, for wait_s at most. It looks at least once.

        It ends early when this replica is told to serve another version, and when is_over() says so.
        """
        ends_at = asyncio.get_running_loop().time() + wait_s
        forget_s = FORGET_S
        while True:
            looked_at = asyncio.get_running_loop().time()
            found = await self._look(model, forget_s)
            now = asyncio.get_running_loop().time()
            is_ours = self._models.served().get(model) == version
            if found.is_complete(version) or now + LOOK_S > ends_at or not is_ours or is_over():
                return found
            await asyncio.sleep(LOOK_S)
            forget_s += asyncio.get_running_loop().time() - looked_at  # who was known at first stays known

    async def _look(self, model: str, forget_s: float) -> Round:
        version = self._models.served().get(model)
        try:
            known = await self._say(model, version)
        except Exception as error:  # noqa: BLE001 - the change is made, whatever this server answers
            return Round([Replica(self.name, version, 0.0)], f"other replicas are not known: {error}")
        lost_s = asyncio.get_running_loop().time() - self._lost.get(model, float("-inf"))
        unseen = LOST if lost_s < AWAY_S else None
        return Round([replica for replica in known if replica.silent_s < forget_s], unseen)

    async def _say_all(self) -> None:
        served = self._models.served()
        for model, version in served.items():
            await self._say(model, version)
        for model in self._said - served.keys():
            await self._leave(model)

    async def _say(self, model: str, version: str | None) -> list[Replica]:
        """Returns what every replica said last, this one included. Raises Unavailable or OutOfMemory."""
        arguments = [self.name, version or "", round(1000 * KEEP_S)]
        now_ms, is_known, *entries = await self._server.run(self._script, [_key(model)], arguments)
        if model in self._said and not is_known:
            self._lost[model] = asyncio.get_running_loop().time()
        self._said.add(model)
        said = zip(entries[::3], entries[1::3], entries[2::3], strict=True)
        return sorted(
            (
                Replica(name.decode(), served.decode() or None, (int(now_ms) - int(at_ms)) / 1000)
                for name, at_ms, served in said
            ),
            key=lambda replica: replica.name,
        )

    async def _leave(self, model: str) -> None:
        await self._server.run(self._script, [_key(model)], [self.name])
        self._said.discard(model)


def _key(model: str) -> str:
    return f"losscast:{{{model}}}:replicas"
