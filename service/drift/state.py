"""What the leader has made of the totals so far: kept in the ledger, handed from leader to leader.

Evidence, dependence and rhythm of each signal, sums of audit labels, and the totals up to which all of it goes: what
came since is the difference, so a leader that dies between reading and writing leaves nothing judged twice.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import orjson

from service.drift.bins import Bins
from service.drift.dependence import Dependence
from service.drift.effect import AuditSums
from service.drift.evidence import Evidence
from service.drift.layout import Floats, Layout
from service.drift.rhythm import Rhythm


@dataclass(frozen=True, eq=False)
class SignalState:
    evidence: Evidence
    dependence: Dependence
    rhythm: Rhythm
    peak: float = 0.0  # log10 of the largest evidence since the restart
    since: float = 0.0  # unix seconds: the likeliest start of a change, when the peak was reached

    @classmethod
    def fresh(cls, bins: Bins) -> Self:
        return cls(Evidence.fresh(bins), Dependence.fresh(), Rhythm.fresh())

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        parts = {
            "evidence": Evidence.from_json(fields["evidence"]),
            "dependence": Dependence.from_json(fields["dependence"]),
            "rhythm": Rhythm.from_json(fields["rhythm"]),
        }
        return cls(**{**fields, **parts})

    def to_json(self) -> dict[str, Any]:
        return {
            "evidence": self.evidence.to_json(),
            "dependence": self.dependence.to_json(),
            "rhythm": self.rhythm.to_json(),
            "peak": self.peak,
            "since": self.since,
        }


@dataclass(frozen=True, eq=False)
class State:
    born: str  # of the totals
    totals: Floats  # up to which this goes
    judged_s: float  # unix seconds of the last update that had something new
    looked_s: float  # of the last one at all
    signals: dict[str, SignalState]
    peak: float = 0.0  # log10 of the largest evidence for a page since the restart
    audit: AuditSums = field(default_factory=AuditSums)
    cursor: str = ""  # of the labels read so far

    @classmethod
    def fresh(cls, layout: Layout, born: str, now_s: float) -> Self:
        began_s = float(born) / 1000 if born else now_s
        signals = {name: SignalState.fresh(layout.bins[name]) for name in layout.signals}
        return cls(born, layout.empty(), began_s, began_s, signals)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ValueError when it cannot be read: a leader of another build wrote it."""
        try:
            fields = orjson.loads(data)
            signals = {name: SignalState.from_json(of_signal) for name, of_signal in fields["signals"].items()}
            parts = {"totals": np.array(fields["totals"], np.float64), "audit": AuditSums(**fields["audit"])}
            return cls(**{**fields, **parts, "signals": signals})
        except (KeyError, TypeError, orjson.JSONDecodeError) as error:
            raise ValueError(f"not a drift state: {error}") from error

    def to_json(self) -> bytes:
        fields = {
            "born": self.born,
            "totals": self.totals.tolist(),
            "judged_s": self.judged_s,
            "looked_s": self.looked_s,
            "signals": {name: signal.to_json() for name, signal in self.signals.items()},
            "peak": self.peak,
            "audit": asdict(self.audit),
            "cursor": self.cursor,
        }
        return orjson.dumps(fields)
