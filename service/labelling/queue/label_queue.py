"""The labelling queue's contract: samples go in, are leased to annotators by value, and come back with a label.

Requests and the drain use `LabelQueue`, the janitor uses `QueueUpkeep`. `service.labelling.queue.redis_queue`
implements both.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from service.labelling.samples.sample import Sample

EndState = Literal["accepted", "repeated"]  # repeated: the same request had been accepted before

SampleState = Literal["pending", "leased", "labelled", "rejected", "dead"]  # of a sample that is there


@dataclass(frozen=True, slots=True)
class Announced:
    image: str  # name of the sample's image in the blob store
    is_new: bool  # the image must be written


@dataclass(frozen=True, slots=True)
class Leased:
    sample: Sample
    lease_expires_at: float  # unix seconds, by the server's clock


@dataclass(frozen=True, slots=True)
class Looked:
    sample: Sample
    state: SampleState
    reject_reason: str | None  # of a rejected sample: its annotator's words


@dataclass(frozen=True, slots=True)
class LabelRecord:
    cursor: str  # its place in the order of labels
    sample: Sample
    annotator: str
    label: Any  # JSON, as the annotator sent it
    labelled_at: float  # unix seconds, by the server's clock


@dataclass(frozen=True, slots=True)
class LabelPage:
    labels: list[LabelRecord]
    cursor: str  # where the next page starts


@dataclass(frozen=True, slots=True)
class Garbage:
    """A blob that the queue does not need any more."""

    name: str
    mark: bytes  # since when; a blob that is discarded once more gets another mark


class LabelQueue(Protocol):
    """Every operation is atomic and may be repeated without harm. All raise Unavailable."""

    async def announce(self, samples: Sequence[Sample]) -> dict[str, Announced]:
        """Gives the image of each sample its name. To be called before the images are written and the samples are put.

        Returns names by sample id. Raises OutOfMemory: then samples stay in the journal, and leasing and labelling go
        on.
        """

    async def put(self, samples: Sequence[Sample]) -> frozenset[str]:
        """Adds the samples that the queue does not know yet. Samples over a bound are evicted, the least valuable
        first.

        An evicted sample is new if its image comes again and was flagged later than ever before. A known sample that is
        drawn for audit now moves to the audit lane, in any state but evicted or erased. Returns the ids of samples that
        must be announced again: the arrival that their `blob` belongs to is over, and its image may be deleted. A
        sample without `blob` needs no announcement; its image is the caller's affair. Raises ValueError or OutOfMemory.
        """

    async def until_durable(self, models: Collection[str]) -> None:
        """Returns once all earlier changes of these models' queues would survive a crash of the server."""

    async def settle(self, samples: Sequence[Sample]) -> frozenset[str]:
        """The ids of samples that were put and would survive a crash of the server from now on."""

    async def lease(self, model: str, n: int, annotator: str, token: str, lease_s: float) -> list[Leased]:
        """Up to n samples, shared among the lanes: the most valuable first, in the audit lane the oldest first.

        A token that was used before gets the samples that it still holds. The queue remembers it until its lease would
        have ended, or for 300 s after it held its last sample. Fewer samples come when the hour's budget is spent. The
        same if this annotator skipped thousands that still wait: one call passes over a bounded number of them, and
        the next call continues there.
        """

    async def extend(self, model: str, annotator: str, token: str, lease_s: float) -> list[Leased]:
        """Extends the leases of the samples that the token still holds to lease_s from now; never shortens one."""

    async def label(self, model: str, sample_id: str, annotator: str, token: str, label: Any) -> EndState:
        """Takes the label, even if the lease has ended.

        Raises NotFound (Erased if the sample was erased), or Conflict if the sample is finished.
        """

    async def skip(self, model: str, sample_id: str, annotator: str, token: str) -> None:
        """Gives the sample back; this annotator never gets it again. Raises NotFound, Erased or Conflict."""

    async def reject(self, model: str, sample_id: str, annotator: str, token: str, reason: str) -> EndState:
        """Takes the sample off the queue as not usable. While it is leased, only its holder may do this.

        Raises NotFound, Erased or Conflict.
        """

    async def sweep(self, model: str) -> int:
        """Ends leases that ran out: their samples are pending again, or dead letters after max_expiries. How many."""

    async def requeue(self, model: str, sample_ids: Sequence[str] | None) -> int:
        """Makes dead letters pending, all or the given ones, and forgets their expiries and skips. How many."""

    async def erase(self, model: str, sample_id: str) -> EndState | None:
        """Removes the sample, its label and its image everywhere. None when it is unknown."""

    async def labels(self, model: str, cursor: str, n: int) -> LabelPage:
        """Up to n labels after the cursor ("" is the start), in the order in which they came. Raises BadRequest."""

    async def audits(self, model: str, start: int, n: int) -> list[Sample]:
        """Up to n pending samples of the audit lane, the newest first, without the first `start`. Raises BadRequest."""

    async def stats(self, model: str) -> dict[str, int]:
        """Counts, all of one moment.

        Samples by state: accepted = pending + leased + labelled + rejected + dead + evicted + erased. A sample that
        arrives again after it was evicted or forgotten counts once more. Events: expired, duplicates (samples that were
        known and were flagged later than ever before). Of pending samples: pending_audit, pending_ood, oldest_age_s. Of
        rejected ones: rejected_audit. Also bytes of the images of pending and leased samples, and budget_left this
        hour (-1: no limit).
        """

    async def get(self, model: str, sample_id: str) -> Sample:
        """The sample, until it is evicted, erased or forgotten. Raises NotFound."""

    async def image(self, model: str, sample_id: str) -> str:
        """Name of the sample's image in the blob store; of a labelled sample until it is erased. Raises NotFound."""

    async def look(self, model: str, sample_id: str) -> Looked:
        """The sample and its state, in one round trip. Raises NotFound as `get` does."""


class QueueUpkeep(Protocol):
    """The upkeep of a model's queue. Every operation may be repeated without harm. All raise Unavailable."""

    async def sweep(self, model: str) -> int:
        """As in LabelQueue."""

    async def until_durable(self, models: Collection[str]) -> None:
        """As in LabelQueue."""

    async def forget(self, model: str) -> int:
        """Ends announced samples that were never put, and samples past their retention. How many there were."""

    async def garbage(self, model: str, n: int, until: Garbage | None = None) -> list[Garbage]:
        """Up to n blobs to be deleted, in the order of their marks; none that was discarded after `until`."""

    async def deleted(self, model: str, garbage: Sequence[Garbage]) -> None:
        """These blobs are deleted."""

    async def not_deleted(self, model: str, garbage: Sequence[Garbage]) -> None:
        """These blobs could not be deleted: they are put off, so that others come first."""

    async def finish_erasures(self, model: str) -> None:
        """Finishes erasures that were cut off: takes the labels of erased samples out of archives."""

    async def fill_archive(self, model: str) -> bool:
        """Moves the oldest labels into an archive, if there are enough or they are old. Whether it did."""

    async def image_folder(self, model: str) -> str | None:
        """Folder of this queue's images in the blob store; None when there never was one.

        If a server loses all its data, it starts another queue with another folder; the old images stay untouched.
        """

    async def discard_orphans(self, model: str, images: Sequence[str]) -> int:
        """Marks images as garbage that no sample has and no arriving sample will have. How many there were."""
