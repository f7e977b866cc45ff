"""The state that the leader keeps in the ledger and that the next leader continues.

It holds the detector, the sums of audit labels, and the totals that were counted so far. New traffic is the difference
of two totals. So a leader that dies between reading and writing counts nothing twice and leaves nothing out.

A rolling update may bring leaders of two releases, and one may not understand the other's state: it then starts a fresh
one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Self

import numpy as np
import orjson

from service.drift.audit import AuditRecord
from service.drift.layout import Floats, Layout
from service.drift.statistics.detector import Detector
from service.drift.statistics.onset import History


@dataclass(frozen=True, slots=True, eq=False)
class DetectorState:
    born: str  # of the totals
    totals: Floats  # counted so far
    detector: Detector
    peaks: Mapping[str, float]  # log10 of the largest evidence of each signal since the restart
    seen: Floats  # sums since the restart, of the sections that have a history
    history: History  # of `seen`
    audit: AuditRecord = field(default_factory=AuditRecord)
    cursor: str = ""  # where the next audit labels begin

    @classmethod
    def fresh(cls, layout: Layout) -> Self:
        peaks, seen = dict.fromkeys(layout.signals, 0.0), np.zeros(layout.remembered)
        return cls("", layout.empty(), Detector.fresh(layout.bins), peaks, seen, History.fresh(layout.remembered))

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ValueError for anything but a state that this release can read."""
        try:
            known = orjson.loads(data)
            parts = {
                "totals": np.array(known["totals"], np.float64),
                "detector": Detector.from_json(known["detector"]),
                "seen": np.array(known["seen"], np.float64),
                "history": History.from_json(known["history"], len(known["seen"])),
                "audit": AuditRecord.from_json(known["audit"]),
            }
            return cls(**{**known, **parts})
        except (AttributeError, KeyError, TypeError, orjson.JSONDecodeError) as error:
            raise ValueError(f"not a drift state: {error}") from error

    def fits(self, layout: Layout) -> bool:
        """Whether its arrays have the shapes of this release: another one may use other tilts, bins or batches."""
        mine, fresh = (
            _shape({**_parts(one), "history": None, "audit": None}) for one in (self, DetectorState.fresh(layout))
        )
        return bool(mine == fresh) and len(self.history.times) == len(self.history.sums)

    def to_json(self) -> bytes:
        known = {
            "born": self.born,
            "totals": self.totals.tolist(),
            "detector": self.detector.to_json(),
            "peaks": self.peaks,
            "seen": self.seen.tolist(),
            "history": self.history.to_json(),
            "audit": self.audit.to_json(),
            "cursor": self.cursor,
        }
        return orjson.dumps(known)


def _parts(part: Any) -> dict[str, Any]:
    return {one.name: getattr(part, one.name) for one in fields(part)}


def _shape(part: Any) -> Any:
    """The shape of an array and the type of anything else, by name, at every depth."""
    if isinstance(part, np.ndarray):
        return part.shape
    if isinstance(part, Mapping):
        return {name: _shape(one) for name, one in part.items()}
    if is_dataclass(part):
        return _shape(_parts(part))
    return "number" if isinstance(part, int | float) else type(part).__name__
