"""Sums of audit labels by the time their images came, so that those from before a change correct nothing after it.

Kept in buckets of ten minutes for two days; an image's time is that of the replica that answered it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from service.drift.audit import AuditLoss
from service.drift.statistics.effect import AuditSums

BUCKET_S: Final = 600.0
KEEP_S: Final = 48 * 3600.0


@dataclass(frozen=True, slots=True)
class AuditRecord:
    buckets: Mapping[int, AuditSums] = field(default_factory=dict)  # by number: unix seconds / BUCKET_S

    @classmethod
    def from_json(cls, known: Mapping[str, Mapping[str, Any]]) -> Self:
        """Raises TypeError, AttributeError or ValueError when it is not one."""
        return cls({int(number): AuditSums(**sums) for number, sums in known.items()})

    def to_json(self) -> dict[str, Any]:
        return {str(number): asdict(sums) for number, sums in self.buckets.items()}

    def add(self, losses: Iterable[AuditLoss], now_s: float) -> "AuditRecord":
        """With these, and without what is too old by now."""
        buckets = dict(self.buckets)
        for one in losses:
            number = int(min(one.seen_at, now_s) // BUCKET_S)  # a clock that is ahead is not believed
            more = AuditSums.of(one.true, one.predicted, one.probability)
            buckets[number] = buckets.get(number, AuditSums()) + more
        oldest = (now_s - KEEP_S) // BUCKET_S
        return AuditRecord({number: sums for number, sums in buckets.items() if number >= oldest})

    def since(self, at_s: float | None) -> AuditSums:
        """Of the buckets that began then or later; None: of all. One in which a change began has images of both."""
        first = -math.inf if at_s is None else at_s / BUCKET_S
        return sum((sums for number, sums in self.buckets.items() if number >= first), AuditSums())
