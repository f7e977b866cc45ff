"""What the leader has made of the totals so far: kept in the ledger, handed from leader to leader.

The detector, sums of audit labels, and the totals up to which all of it goes: what came since is the difference, so a
leader that dies between reading and writing leaves nothing judged twice and nothing out.
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
    totals: Floats  # up to which this goes
    detector: Detector
    peaks: Mapping[str, float]  # log10 of the largest evidence of each signal since the restart
    seen: Floats  # what came since the restart, as far as the layout remembers it
    history: History  # of that
    audit: AuditRecord = field(default_factory=AuditRecord)
    cursor: str = ""  # of the labels read so far

    @classmethod
    def fresh(cls, layout: Layout) -> Self:
        peaks, seen = dict.fromkeys(layout.signals, 0.0), np.zeros(layout.remembered)
        return cls("", layout.empty(), Detector.fresh(layout.bins), peaks, seen, History.fresh(layout.remembered))

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ValueError when it cannot be read: a leader of another build wrote it, or nobody did."""
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
        """Whether it is made as this build makes them: another one may have other tilts, bins or batches."""
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
    """Of arrays their shape, of all else its kind; by name, whatever the depth."""
    if isinstance(part, np.ndarray):
        return part.shape
    if isinstance(part, Mapping):
        return {name: _shape(one) for name, one in part.items()}
    if is_dataclass(part):
        return _shape(_parts(part))
    return "number" if isinstance(part, int | float) else type(part).__name__
