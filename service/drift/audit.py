"""Labels of the audit lane: the true loss of an image beside its predicted loss.

The audit lane draws images independently of the model's verdict, with a recorded probability. So only its labels
describe the model on all traffic. An unreadable label is skipped and logged; nothing waits for it.

Labels are added up by the time of their images, in buckets of ten minutes for two days. So labels of images from before
a change do not correct the loss after it. The time of an image is that of the replica that answered it.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from models.contract.manifest import Manifest
from models.contract.true_loss import true_loss
from service.drift.ledger import BUCKET_S, KEEP_S
from service.drift.statistics.effect import AuditSums
from service.labelling.queue.label_queue import LabelQueue, LabelRecord

log = logging.getLogger(__name__)
LABELS_PER_READ = 1000
ABSURD = 100.0  # failure levels: without a bound, a larger loss counts as a mistake in the label


@dataclass(frozen=True, slots=True)
class AuditLoss:
    predicted: float
    true: float
    probability: float  # of drawing the image for the audit lane
    seen_at: float  # unix seconds at which its image was answered


@dataclass(frozen=True, slots=True)
class AuditPage:
    losses: Sequence[AuditLoss]
    cursor: str  # where the next page begins


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Sums of audit labels by time. Immutable: `add` returns a new record."""

    buckets: Mapping[int, AuditSums] = field(default_factory=dict)  # by number: unix seconds / BUCKET_S

    @classmethod
    def from_json(cls, known: Mapping[str, Mapping[str, Any]]) -> Self:
        """Raises TypeError, AttributeError or ValueError for JSON of another form."""
        return cls({int(number): AuditSums(**sums) for number, sums in known.items()})

    def to_json(self) -> dict[str, Any]:
        return {str(number): asdict(sums) for number, sums in self.buckets.items()}

    def add(self, losses: Iterable[AuditLoss], now_s: float) -> "AuditRecord":
        """A record with these losses, and without the buckets that are too old."""
        buckets = dict(self.buckets)
        for one in losses:
            number = int(min(one.seen_at, now_s) // BUCKET_S)  # the clock of a replica may be ahead
            more = AuditSums.of(one.true, one.predicted, one.probability)
            buckets[number] = buckets.get(number, AuditSums()) + more
        oldest = (now_s - KEEP_S) // BUCKET_S
        return AuditRecord({number: sums for number, sums in buckets.items() if number >= oldest})

    def since(self, at_s: float | None) -> AuditSums:
        """The sum of the buckets that began at at_s or later; None: of all.

        The bucket in which a change began has images from before and after it, so it does not count.
        """
        first = -math.inf if at_s is None else at_s / BUCKET_S
        return sum((sums for number, sums in self.buckets.items() if number >= first), AuditSums())


async def read(queue: LabelQueue, manifest: Manifest, cursor: str) -> AuditPage:
    """The losses of the labels that follow the cursor, of this version only. Raises Unavailable."""
    page = await queue.labels(manifest.model, cursor, LABELS_PER_READ)
    return AuditPage(list(losses(manifest, page.labels)), page.cursor)


def losses(manifest: Manifest, records: Iterable[LabelRecord]) -> Iterator[AuditLoss]:
    """The losses of those records that are audit labels of this version and can be read."""
    for record in records:
        sample = record.sample
        is_audit = sample.version == manifest.version and sample.lane == "audit" and sample.audit_probability
        if not (is_audit and sample.counts_for_drift):
            continue
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                loss = _true_loss(manifest, record)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            log.warning("the label of %s does not count for drift: %s", sample.id, error)
            continue
        if loss is not None:
            yield AuditLoss(sample.predicted_loss, loss, sample.audit_probability or 0.0, sample.flagged_at)


def _true_loss(manifest: Manifest, record: LabelRecord) -> float | None:
    """None where the bundle declares no loss. Raises errors of several kinds for a label that cannot be read, and
    ValueError for one that would outweigh all others.
    """
    sample = record.sample
    loss = true_loss(manifest, sample.prediction["values"], record.label["values"], sample.width, sample.height)
    if loss is None:
        return None
    limit = manifest.loss.bound or ABSURD * manifest.loss.failure_level
    if loss > limit:
        raise ValueError(f"its loss is {loss:.3g} {manifest.loss.unit}, more than {limit:.3g}")
    sums = AuditSums.of(loss, sample.predicted_loss, sample.audit_probability or 0.0)
    if not math.isfinite(sums.w2d2 + sums.w2):
        raise ValueError("its predicted loss or its probability is out of range")
    return loss
