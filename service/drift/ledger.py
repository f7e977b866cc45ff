"""The drift ledger on the queue's Redis server: the sums of all replicas for a version, and which replica leads.

flush (every replica) -> totals and time buckets; the leader: look -> evidence -> write. Buckets and leases go by the
server's clock, so the clocks of replicas do not matter. A flush carries the name of the replica and a sequence number,
so it counts once even if it is repeated. A leader that was replaced cannot write (fencing).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.redis.server import RedisServer

BUCKET_S: Final = 600.0
KEEP_S: Final = 48 * 3600.0  # buckets
RETENTION_S: Final = 7 * 86_400.0  # for all keys of a version, after the last flush of a replica that serves it
PACKED = np.dtype("<f8")
_LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """Which ledger. layout: the fingerprint of a `Layout`; sums with another meaning go to another ledger."""

    model: str
    version: str
    layout: str

    def keys(self, *names: str) -> list[str]:
        return [f"losscast:{{{self.model}}}:drift:{self.version}:{self.layout}:{name}" for name in names]


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """Sums that a replica adds in one flush."""

    sequence: int  # it increases from one parcel of a replica to the next
    sums: NDArray[np.float64]  # [n], finite
    images: int  # the number of images in the sums

    def packed(self) -> bytes:
        return self.sums.astype(PACKED).tobytes()


@dataclass(frozen=True, slots=True)
class Flushed:
    now_s: float  # unix seconds, by the server's clock
    token: str  # of the leader; empty for the other replicas
    born: str  # unix milliseconds at which the totals began; empty if there are none
    report: bytes  # the last one that the leader wrote; empty if there is none


@dataclass(frozen=True, slots=True)
class LedgerSums:
    """Everything the leader reads, of one moment."""

    now_s: float  # unix seconds, by the server's clock
    born: str  # as in Flushed; totals continue earlier ones only if this is the same
    totals: NDArray[np.float64]  # empty if there are none
    window: NDArray[np.float64]  # sum of the buckets that reach into the window; empty if there are none
    state: bytes  # the last one that a leader wrote; empty if there is none
    replicas: float  # how many share the recent traffic, of which replica i saw n_i images: n^2 / sum n_i^2


class Ledger:
    """Every method raises Unavailable or OutOfMemory, and may be repeated."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._scripts = {file.stem: server.register(file.read_text()) for file in _LUA.glob("*.lua")}

    async def flush(self, place: LedgerKey, replica: str, parcel: Parcel | None, lease_s: float) -> Flushed:
        """Adds the parcel, unless the ledger has it already. None adds nothing.

        The replica becomes the leader for lease_s, unless another one leads.
        """
        sequence, packed, images = (parcel.sequence, parcel.packed(), parcel.images) if parcel else (0, b"", 0)
        periods = [_ms(seconds) for seconds in (BUCKET_S, KEEP_S, lease_s, RETENTION_S)]
        keys = place.keys("totals", "buckets", f"receipt:{replica}", "leader", "report", "shares")
        arguments = [replica, sequence, packed, *periods, images]
        reply = await self._server.run(self._scripts["flush"], keys, arguments)
        now_ms, token, born, report = reply
        return Flushed(float(now_ms) / 1000, token.decode(), born.decode(), report)

    async def look(self, place: LedgerKey, window_s: float) -> LedgerSums:
        """The sums to update evidence from. The window begins with a bucket, so it may be up to a bucket longer."""
        keys = place.keys("totals", "buckets", "report", "shares")
        reply = await self._server.run(self._scripts["look"], keys, [_ms(window_s), _ms(BUCKET_S)])
        now_ms, born, totals, state, shares, *buckets = reply
        replicas = _replicas(np.array(shares, np.float64))
        return LedgerSums(float(now_ms) / 1000, born.decode(), _unpacked([totals]), _unpacked(buckets), state, replicas)

    async def write(self, place: LedgerKey, token: str, state: bytes, report: bytes) -> bool:
        """Whether it was written: only with the present leader's token. An empty state leaves the stored one."""
        arguments = [token, state, report, _ms(RETENTION_S)]
        return bool(await self._server.run(self._scripts["write"], place.keys("leader", "report"), arguments))


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _replicas(images: NDArray[np.float64]) -> float:
    return float(images.sum() ** 2 / (images**2).sum()) if images.any() else 1.0


def _unpacked(parts: Sequence[bytes]) -> NDArray[np.float64]:
    """The sum of packed vectors of one length; empty if there are none."""
    if not any(parts):
        return np.empty(0)
    total: NDArray[np.float64] = np.sum([np.frombuffer(part, PACKED) for part in parts if part], axis=0)
    return total
