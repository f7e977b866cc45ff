"""A model of the labelling queue in plain Python: tests compare the real queue with it.

Everything is a scan over all samples; nothing is kept twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.labelling.queue.policy import QueuePolicy
from service.labelling.samples.sample import Sample

LANES = ("predicted_loss", "audit", "ood_score")  # in the order in which ties between their credits are broken
MAX_SKIPS = 16
Holder = tuple[str, str]


@dataclass
class Item:
    sample: Sample
    arrival: int  # counts up, as the queue's clock does
    state: str = "pending"
    never_put: bool = False
    may_be_written: bool = False  # erased while it arrived, so its image is deleted when the arrival goes on, or late
    expiries: int = 0
    skips: set[str] = field(default_factory=set)
    holder: Holder | None = None
    expires_at: float = 0.0
    charged_hour: int = 0
    receipt: tuple[object, ...] = ()
    evicted_by: int = 0  # which call: what one call evicts, it evicts at one time

    def known(self) -> tuple[str, str, str]:
        """State, lane and expiries. A sample that was erased while it arrived was in no lane."""
        return self.state, "-" if self.never_put else self.sample.lane, str(self.expiries)


class QueueModel:
    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.items: dict[str, Item] = {}
        self.arriving: dict[str, tuple[int, Sample]] = {}  # id -> arrival, as first announced
        self.arrivals = 0
        self.calls = 0
        self.forgotten = 0  # evicted samples that are not known any more, and count as evicted for good
        self.counts = {"accepted": 0, "expired": 0, "duplicates": 0}
        self.credits = dict.fromkeys(LANES, 0.0)
        self.hour, self.charged = 0, 0
        self.holders: dict[Holder, tuple[float, list[str]]] = {}
        self.labels: list[tuple[str, str, object]] = []

    def is_in(self, *states: str) -> list[str]:
        return [sample_id for sample_id, item in self.items.items() if item.state in states]

    def lane(self, lane: str) -> list[str]:
        """Its pending samples in the order in which they are leased."""
        ids = [sample_id for sample_id in self.is_in("pending") if self.items[sample_id].sample.lane == lane]
        if lane == "audit":
            return sorted(ids, key=lambda sample_id: self.items[sample_id].arrival)
        return sorted(ids, key=lambda sample_id: (self.items[sample_id].sample.value, sample_id), reverse=True)

    def at(self, hour: int) -> None:
        """The hour of the server's clock."""
        if hour != self.hour:
            self.hour, self.charged = hour, 0

    def announce(self, sample: Sample) -> bool:
        """Whether the image must be written."""
        self._revive(sample)
        if sample.id in self.items:
            self.items[sample.id].may_be_written = False
            return False
        if sample.id not in self.arriving:
            self.arrivals += 1
            self.arriving[sample.id] = (self.arrivals, sample)
        return True

    def put(self, sample: Sample) -> bool:
        """Puts a sample that was announced, perhaps long ago. Whether it must be announced again."""
        self.calls += 1
        self._revive(sample)
        item = self.items.get(sample.id)
        if item is None and sample.id not in self.arriving:
            return True
        if item is None:
            arrival, announced = self.arriving.pop(sample.id)
            latest = _seen_again(sample, max(sample.flagged_at, announced.flagged_at))
            self.items[sample.id] = item = Item(latest, arrival)
            self.counts["accepted"] += 1
            self._make_room(item)
        else:
            self._repeat(item, sample)
        return False

    def _repeat(self, item: Item, sample: Sample) -> None:
        item.may_be_written = False
        self.counts["duplicates"] += sample.flagged_at > item.sample.flagged_at
        is_drawn = sample.lane == "audit" and item.sample.lane != "audit" and item.state not in {"evicted", "erased"}
        latest = max(sample.flagged_at, item.sample.flagged_at)
        item.sample = _seen_again(sample if is_drawn else item.sample, latest)

    def sweep(self, now_s: float) -> int:
        self.calls += 1
        expired = sorted(
            (self.items[sample_id].expires_at, sample_id)
            for sample_id in self.is_in("leased")
            if self.items[sample_id].expires_at <= now_s
        )
        for _, sample_id in expired:
            item = self.items[sample_id]
            self._end_lease(item)
            self.counts["expired"] += 1
            item.expiries += 1
            if item.expiries >= self.policy.max_expiries:
                item.state = "dead"
            else:
                self._return(item)
        for holder in [holder for holder, (expires_at, _) in self.holders.items() if expires_at <= now_s]:
            del self.holders[holder]
        return len(expired)

    def held(self, holder: Holder) -> list[str]:
        _, ids = self.holders.get(holder, (0.0, []))
        return [sample_id for sample_id in ids if self.items[sample_id].holder == holder]

    def choose(self, n: int, annotator: str) -> list[str]:
        """The ids that a lease should give. `grant` then takes them off the lanes."""
        left = self.budget_left()
        queues = {
            lane: [sample_id for sample_id in self.lane(lane) if annotator not in self.items[sample_id].skips]
            for lane in LANES
        }
        audit, ood = self.policy.audit_share, self.policy.ood_share
        shares = {"predicted_loss": max(1 - audit - ood, 0), "audit": audit, "ood_score": ood}
        chosen: list[str] = []
        while len(chosen) < (n if left < 0 else min(n, left)):
            offering = [lane for lane in LANES if queues[lane]]
            total = sum(shares[lane] for lane in offering)
            takers = [lane for lane in offering if shares[lane] > 0 or total == 0]
            if not takers:
                break
            for lane in takers if total else ():
                self.credits[lane] += shares[lane] / total
            best = max(takers, key=lambda lane: self.credits[lane])
            self.credits[best] -= 1 if total else 0
            chosen.append(queues[best].pop(0))
        return chosen

    def grant(self, ids: Sequence[str], holder: Holder, expires_at: float) -> None:
        for sample_id in ids:
            item = self.items[sample_id]
            item.state, item.holder, item.charged_hour = "leased", holder, self.hour
        self.charged += len(ids)
        self.renew(ids, holder, expires_at)

    def renew(self, ids: Sequence[str], holder: Holder, expires_at: float) -> None:
        for sample_id in ids:
            self.items[sample_id].expires_at = expires_at
        if ids:
            self.holders[holder] = (expires_at, list(ids))

    def label(self, sample_id: str, annotator: str, token: str, label: object) -> str:
        item = self.items.get(sample_id)
        if item is None or item.state == "erased":
            return "unknown" if item is None else "erased"
        receipt = (annotator, token, label)
        if item.state == "labelled":
            return "repeated" if item.receipt == receipt else "conflict"
        if item.state not in {"pending", "leased", "dead"}:
            return "conflict"
        self.charged += item.state != "leased"
        item.holder, item.state, item.receipt = None, "labelled", receipt
        self.labels.append((sample_id, annotator, label))
        return "accepted"

    def reject(self, sample_id: str, annotator: str, token: str, reason: str) -> str:
        item = self.items.get(sample_id)
        if item is None or item.state == "erased":
            return "unknown" if item is None else "erased"
        receipt = (annotator, token, reason)
        if item.state == "rejected" and item.receipt == receipt:
            return "repeated"
        is_another = item.state == "leased" and item.holder != (annotator, token)
        if is_another or item.state not in {"pending", "leased", "dead"}:
            return "conflict"
        item.holder, item.state, item.receipt = None, "rejected", receipt
        return "accepted"

    def skip(self, sample_id: str, annotator: str, token: str) -> str:
        item = self.items.get(sample_id)
        if item is None or item.state == "erased":
            return "unknown" if item is None else "erased"
        self.calls += 1
        if annotator in item.skips:
            return "accepted"
        if item.state not in {"pending", "leased"}:
            return "conflict"
        is_own = item.holder == (annotator, token)
        if item.holder is not None and not is_own and item.holder[0] == annotator:
            return "conflict"
        item.skips.add(annotator)
        is_free = item.holder is None or is_own
        if is_own:
            self._end_lease(item)
        if is_free and len(item.skips) >= MAX_SKIPS:
            item.state = "dead"
        elif is_own:
            self._return(item)
        return "accepted"

    def requeue(self, ids: Sequence[str]) -> int:
        self.calls += 1
        dead = [sample_id for sample_id in ids if sample_id in self.is_in("dead")]
        for sample_id in dead:
            self.items[sample_id].expiries = 0
            self.items[sample_id].skips.clear()
            self._return(self.items[sample_id])
        return len(dead)

    def erase(self, sample_id: str) -> str | None:
        if sample_id in self.arriving:
            arrival, announced = self.arriving.pop(sample_id)
            self.items[sample_id] = Item(announced, arrival, "arriving", never_put=True, may_be_written=True)
            self.counts["accepted"] += 1
        item = self.items.get(sample_id)
        if item is None:
            return None
        if item.state == "erased":
            return "repeated"
        if item.state == "leased":
            self._end_lease(item)
        if item.state == "labelled":
            self.labels = [label for label in self.labels if label[0] != sample_id]
        item.state = "erased"
        item.skips.clear()
        return "accepted"

    def budget_left(self) -> int:
        limit = self.policy.labels_per_hour
        return -1 if limit is None else max(limit - self.charged, 0)

    def stats(self) -> dict[str, int]:
        """All counts but the age of the oldest."""
        places = ("pending", "leased", "labelled", "rejected", "dead", "evicted", "erased")
        waiting = self.is_in("pending", "leased")
        return {
            **{place: len(self.is_in(place)) + self.forgotten * (place == "evicted") for place in places},
            **self.counts,
            "rejected_audit": sum(self.items[one].sample.lane == "audit" for one in self.is_in("rejected")),
            "pending_audit": len(self.lane("audit")),
            "pending_ood": len(self.lane("ood_score")),
            "bytes": sum(self.items[sample_id].sample.bytes for sample_id in waiting),
            "budget_left": self.budget_left(),
        }

    def _revive(self, sample: Sample) -> None:
        item = self.items.get(sample.id)
        if item is not None and item.state == "evicted" and sample.flagged_at > item.sample.flagged_at:
            self._forget(sample.id)

    def _forget(self, evicted_id: str) -> None:
        del self.items[evicted_id]
        self.forgotten += 1

    def _end_lease(self, item: Item) -> None:
        if item.charged_hour == self.hour:
            self.charged = max(self.charged - 1, 0)
        item.holder = None

    def _return(self, item: Item) -> None:
        item.state = "pending"
        self._make_room(item)

    def _make_room(self, item: Item) -> None:
        source = item.sample.source
        if source and item.sample.lane != "audit":
            mine = [
                other
                for other in map(self.items.__getitem__, self.is_in("pending"))
                if other.sample.source == source and other.sample.lane != "audit"
            ]
            excess = max(len(mine) - self.policy.max_pending_per_source, 0)
            for one in sorted(mine, key=lambda other: (other.sample.value, other.sample.id))[:excess]:
                self._evict(one)
        while True:
            loss, ood = self.lane("predicted_loss"), self.lane("ood_score")
            is_within = (
                len(loss) + len(ood) <= self.policy.max_pending and self.stats()["bytes"] <= self.policy.max_bytes
            )
            if is_within or not loss + ood:
                return
            loss_share = 1 - self.policy.audit_share - self.policy.ood_share
            is_ood = not loss or (ood and len(ood) * loss_share > len(loss) * self.policy.ood_share)
            self._evict(self.items[(ood if is_ood else loss)[-1]])

    def _evict(self, item: Item) -> None:
        item.state = "evicted"
        item.skips.clear()
        item.evicted_by = self.calls
        evicted = self.is_in("evicted")
        if len(evicted) > self.policy.max_tombstones:
            self._forget(min(evicted, key=lambda sample_id: (self.items[sample_id].evicted_by, sample_id)))


def _seen_again(sample: Sample, flagged_at: float) -> Sample:
    fields = {name: getattr(sample, name) for name in Sample.__dataclass_fields__}
    return Sample(**{**fields, "flagged_at": flagged_at})
