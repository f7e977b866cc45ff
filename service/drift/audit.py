"""Labels of the audit lane, as true losses beside the predicted ones.

Images are drawn for that lane whatever the model thinks of them, with a recorded probability: their labels alone tell
what the model does to all traffic. A label that cannot be read is passed over, never waited for.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from models.contract.manifest import Manifest
from models.contract.true_loss import true_loss
from service.labelling.queue import LabelQueue, LabelRecord

log = logging.getLogger(__name__)
PAGE = 1000  # labels that one update reads at most


@dataclass(frozen=True, slots=True)
class AuditLoss:
    predicted: float
    true: float
    probability: float  # with which the image was drawn
    labelled_at: float  # unix seconds


@dataclass(frozen=True, slots=True)
class AuditPage:
    losses: Sequence[AuditLoss]
    cursor: str  # behind them


async def read(queue: LabelQueue, manifest: Manifest, cursor: str) -> AuditPage:
    """The losses of the next labels behind the cursor, of this version alone. Raises Unavailable."""
    page = await queue.labels(manifest.model, cursor, PAGE)
    return AuditPage(list(losses(manifest, page.labels)), page.cursor)


def losses(manifest: Manifest, records: Iterable[LabelRecord]) -> Iterator[AuditLoss]:
    for record in records:
        sample = record.sample
        if sample.version != manifest.version or sample.lane != "audit" or not sample.audit_probability:
            continue
        try:
            loss = true_loss(manifest, sample.prediction["values"], record.label["values"], sample.width, sample.height)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            log.warning("the label of %s does not count for drift: %s", sample.id, error)
            continue
        if loss is not None:
            yield AuditLoss(sample.predicted_loss, loss, sample.audit_probability, record.labelled_at)
