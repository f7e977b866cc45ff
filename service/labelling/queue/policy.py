"""Bounds of the labelling queue: how much it may hold, and how much it may lease out."""

from dataclasses import dataclass

GIB = 2**30
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    max_pending: int = 100_000  # samples; beyond it the least valuable is evicted, never one of the audit lane
    max_bytes: int = 10 * GIB  # of images of pending and leased samples; beyond it, as above
    max_pending_per_source: int = 1_000  # of one X-Source, so that one camera that is stuck cannot fill the queue
    labels_per_hour: int | None = None  # samples leased within an hour of the server's clock; None: no limit
    max_expiries: int = 5  # leases that may run out before a sample becomes a dead letter
    audit_share: float = 0.1  # of leases, for samples of the audit lane, while it has any
    ood_share: float = 0.2  # of leases, for samples that were flagged by their OOD score alone
    max_tombstones: int = 1_000_000  # ids of evicted samples, about 270 bytes each; the oldest are forgotten first
    max_passed_over: int = 10_000  # skipped samples that one lease passes over; the next lease continues from there
    retention_s: float = 30 * DAY_S  # then pending samples are evicted and finished ones forgotten; labels are kept
