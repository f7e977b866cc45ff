"""What the labelling queue may hold and hand out: every bound in one frozen record."""

from dataclasses import dataclass

GIB = 2**30
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    max_pending: int = 100_000  # samples; beyond it the least valuable is evicted, never one of the audit lane
    max_bytes: int = 10 * GIB  # of images that wait or are leased; likewise
    max_pending_per_source: int = 1_000  # of one X-Source, so that a stuck camera cannot fill the queue
    labels_per_hour: int | None = None  # samples leased within an hour of the server's clock; None: no limit
    max_expiries: int = 5  # leases that may run out before a sample becomes a dead letter
    audit_share: float = 0.1  # of leases, while the lane has samples
    ood_share: float = 0.2  # likewise, for samples flagged by their OOD score alone
    max_tombstones: int = 1_000_000  # ids of evicted samples, some 270 bytes each; the oldest are forgotten first
    max_passed_over: int = 10_000  # by one lease, of samples that its annotator skipped; the next one goes on there
    retention_s: float = 30 * DAY_S  # after it, pending samples are evicted and finished ones forgotten, save labels
