"""One refinement of a model at a time, over all hosts: a lock on the queue's Redis server, with a fencing token.

Whoever takes the lock gets a token that is larger than all before it. It keeps the lock by saying so, and loses it when
it falls silent. The bundle store remembers the largest token that has written there, so a holder that lost the lock
without noticing is refused (`models.contract.fence`).
"""

from dataclasses import dataclass
from pathlib import Path

from service.errors import Conflict
from service.redis.server import RedisServer

_SCRIPT = (Path(__file__).parent / "lua" / "refinement_lock.lua").read_text()


@dataclass(frozen=True, slots=True)
class Held:
    """The lock as it is now. holder: None if nobody has it."""

    holder: str | None
    token: int
    left_s: float


class RefinementLock:
    """Methods raise Unavailable while the server is away."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._script = server.register(_SCRIPT)

    async def take(self, model: str, holder: str, length_s: float, above: int) -> Held:
        """above: the largest token that the caller knows; the new one is larger, also on a server that lost its data.

        The same holder, asking again, keeps its token. Raises Conflict while another one has the lock.
        """
        done, held = await self._run(model, "take", holder, _ms(length_s), above)
        if not done:
            raise Conflict(f"{held.holder} is refining {model}: wait until it has ended, at least {held.left_s:.0f} s")
        return held

    async def keep(self, model: str, token: int, length_s: float) -> Held:
        """Raises Conflict if the lock was lost."""
        done, held = await self._run(model, "keep", token, _ms(length_s))
        if not done:
            raise Conflict(f"the lock on the refinement of {model} is lost: {_whose(held)}")
        return held

    async def drop(self, model: str, token: int) -> Held:
        """Does nothing if the lock was lost."""
        return (await self._run(model, "drop", token))[1]

    async def look(self, model: str) -> Held:
        return (await self._run(model, "look"))[1]

    async def _run(self, model: str, verb: str, *arguments: str | int) -> tuple[bool, Held]:
        done, holder, token, left_ms = await self._server.run(self._script, [_key(model)], [verb, *arguments])
        return bool(done), Held(holder.decode() or None, int(token), int(left_ms) / 1000)


def _key(model: str) -> str:
    return f"losscast:{{{model}}}:refinement"


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _whose(held: Held) -> str:
    return f"{held.holder} has it now" if held.holder else "it ran out"
