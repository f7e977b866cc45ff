"""The drift ledger on the queue's server: what all replicas saw of a model's version, added up, and who judges it.

flush (every replica) -> totals and time buckets; whoever leads: look -> evidence -> write. The server's clock makes
the buckets and ends the leases, so replicas' clocks do not matter. A flush carries the replica's name and a sequence
number: repeated, it counts once. A leader that was replaced can write no more (fencing).
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
RETENTION_S: Final = 7 * 86_400.0  # everything of a version, after the last flush of a replica that serves it
PACKED = np.dtype("<f8")
_LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Place:
    """Whose ledger. layout: a fingerprint of what the sums mean, so that no two meanings are ever added."""

    model: str
    version: str
    layout: str

    def keys(self, *names: str) -> list[str]:
        return [f"losscast:{{{self.model}}}:drift:{self.version}:{self.layout}:{name}" for name in names]


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """What a replica adds."""

    sequence: int  # of the replica's parcels; it increases
    sums: NDArray[np.float64]  # [n], finite
    images: int  # that they are of

    def packed(self) -> bytes:
        return self.sums.astype(PACKED).tobytes()


@dataclass(frozen=True, slots=True)
class Flushed:
    now_s: float  # unix seconds, by the server's clock
    token: str  # of the leader; empty for all but the leader
    born: str  # unix milliseconds at which the totals began; empty: there are none
    report: bytes  # as the leader wrote it last; empty: there is none


@dataclass(frozen=True, slots=True)
class LedgerSums:
    """Of one moment."""

    now_s: float  # unix seconds, by the server's clock
    born: str  # as in Flushed: the totals are those of an earlier moment with more only if this is the same
    totals: NDArray[np.float64]  # empty when there are none
    window: NDArray[np.float64]  # of the buckets that reach into the window; empty when there are none
    state: bytes  # as written last; empty: there is none
    replicas: float  # over how many the images were dealt out of late: n^2 / sum n_i^2


class Ledger:
    """All methods raise Unavailable or OutOfMemory, and may be repeated."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._scripts = {file.stem: server.register(file.read_text()) for file in _LUA.glob("*.lua")}

    async def flush(self, place: Place, replica: str, parcel: Parcel | None, lease_s: float) -> Flushed:
        """Adds the parcel unless the ledger has it from this replica; None adds nothing.

        Leads from here on for lease_s when nobody else does.
        """
        sequence, packed, images = (parcel.sequence, parcel.packed(), parcel.images) if parcel else (0, b"", 0)
        periods = [_ms(seconds) for seconds in (BUCKET_S, KEEP_S, lease_s, RETENTION_S)]
        keys = place.keys("totals", "buckets", f"receipt:{replica}", "leader", "report", "shares")
        arguments = [replica, sequence, packed, *periods, images]
        reply = await self._server.run(self._scripts["flush"], keys, arguments)
        now_ms, token, born, report = reply
        return Flushed(float(now_ms) / 1000, token.decode(), born.decode(), report)

    async def look(self, place: Place, window_s: float) -> LedgerSums:
        """What there is to judge. The window begins with a bucket: it is longer than asked for by less than one."""
        keys = place.keys("totals", "buckets", "report", "shares")
        reply = await self._server.run(self._scripts["look"], keys, [_ms(window_s), _ms(BUCKET_S)])
        now_ms, born, totals, state, shares, *buckets = reply
        replicas = _replicas(np.array(shares, np.float64))
        return LedgerSums(float(now_ms) / 1000, born.decode(), _unpacked([totals]), _unpacked(buckets), state, replicas)

    async def write(self, place: Place, token: str, state: bytes, report: bytes) -> bool:
        """Whether it was written: not when the token is not the leader's any more. state: empty leaves it as it is."""
        arguments = [token, state, report, _ms(RETENTION_S)]
        return bool(await self._server.run(self._scripts["write"], place.keys("leader", "report"), arguments))


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _replicas(images: NDArray[np.float64]) -> float:
    return float(images.sum() ** 2 / (images**2).sum()) if images.any() else 1.0


def _unpacked(parts: Sequence[bytes]) -> NDArray[np.float64]:
    """The sum of packed vectors of one length; empty when there are none."""
    if not any(parts):
        return np.empty(0)
    total: NDArray[np.float64] = np.sum([np.frombuffer(part, PACKED) for part in parts if part], axis=0)
    return total
