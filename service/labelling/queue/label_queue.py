"""The labelling queue's contract: samples go in, are leased out by value, and come back with a label.

Requests and the drain use `LabelQueue`, the janitor `QueueUpkeep`. `service.labelling.queue.redis_queue` keeps both.
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
    is_new: bool  # the image is to be written


@dataclass(frozen=True, slots=True)
class Leased:
    sample: Sample
    lease_expires_at: float  # unix seconds, by the server's clock


@dataclass(frozen=True, slots=True)
class Looked:
    sample: Sample
    state: SampleState
    reject_reason: str | None  # of a rejected one: what its annotator said


@dataclass(frozen=True, slots=True)
class LabelRecord:
    cursor: str  # its place in the order of labels
    sample: Sample
    annotator: str
    label: Any  # JSON, as it was given
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
    """Every operation is atomic, and harmless when it is repeated. All raise Unavailable."""

    async def announce(self, samples: Sequence[Sample]) -> dict[str, Announced]:
        """Names the image of each sample, by sample id: first announce, then write the images, then put.

        Raises OutOfMemory: samples stay in the journal; leasing and labelling go on.
        """

    async def put(self, samples: Sequence[Sample]) -> frozenset[str]:
        """Adds what is not known yet; what is over a bound is evicted, the least valuable first.

        An evicted sample whose image comes again, flagged later than ever before, is new. One that is known, in any
        state but evicted or erased, and is drawn for audit now, belongs to that lane from then on.
        Returns the ids of those that must be announced again, because the arrival that their `blob` names
        is over and its image may be deleted. A sample without `blob` needs no announcement; its image is
        the caller's affair. Raises ValueError or OutOfMemory.
        """

    async def until_durable(self, models: Collection[str]) -> None:
        """Returns once all that these models' queues were told before would survive a crash of their server."""

    async def settle(self, samples: Sequence[Sample]) -> frozenset[str]:
        """The ids of those that were put and would survive a crash of the server from here on."""

    async def lease(self, model: str, n: int, annotator: str, token: str, lease_s: float) -> list[Leased]:
        """Up to n samples, shared among the lanes, most valuable (or oldest, in the audit lane) first.

        To a token that was used, those it still holds, until its lease would have ended, or for 300 s from when it
        held nothing any more. Fewer when the hour's budget is spent, or when this annotator skipped thousands that
        still wait: the policy bounds what one call passes over, and the next one goes on where it ended.
        """

    async def extend(self, model: str, annotator: str, token: str, lease_s: float) -> list[Leased]:
        """What the token still holds, from now on for lease_s or, when that is longer, as before."""

    async def label(self, model: str, sample_id: str, annotator: str, token: str, label: Any) -> EndState:
        """Takes the label, also one that comes late.

        Raises NotFound (Erased when it was there once), or Conflict when the sample is finished.
        """

    async def skip(self, model: str, sample_id: str, annotator: str, token: str) -> None:
        """Gives the sample back; this annotator never gets it again. Raises NotFound, Erased or Conflict."""

    async def reject(self, model: str, sample_id: str, annotator: str, token: str, reason: str) -> EndState:
        """Takes the sample off the queue as not usable; while it is leased only its holder may.

        Raises NotFound, Erased or Conflict.
        """

    async def sweep(self, model: str) -> int:
        """Returns samples whose lease ran out, or buries them after max_expiries. How many there were."""

    async def requeue(self, model: str, sample_ids: Sequence[str] | None) -> int:
        """Returns dead letters, all or those named, with their expiries and skips forgotten. How many there were."""

    async def erase(self, model: str, sample_id: str) -> EndState | None:
        """Removes the sample, its label and its image everywhere. None when it is unknown."""

    async def labels(self, model: str, cursor: str, n: int) -> LabelPage:
        """Up to n labels behind the cursor ("" for the start), in the order in which they came. Raises BadRequest."""

    async def stats(self, model: str) -> dict[str, int]:
        """Counts of one moment.

        Where samples are: accepted = pending + leased + labelled + rejected + dead + evicted + erased; one that arrives
        again after it was evicted or forgotten counts once more. Events: expired, duplicates (known, and flagged later
        than ever before). Of the pending: pending_audit, pending_ood, oldest_age_s. Else: bytes of the images that wait
        or are leased, budget_left this hour (-1: no limit).
        """

    async def get(self, model: str, sample_id: str) -> Sample:
        """The sample, until it is evicted, erased or forgotten. Raises NotFound."""

    async def image(self, model: str, sample_id: str) -> str:
        """Name of the sample's image in the blob store; of a labelled one until it is erased. Raises NotFound."""

    async def look(self, model: str, sample_id: str) -> Looked:
        """The sample and where it is, in one round trip. Raises NotFound as `get` does."""


class QueueUpkeep(Protocol):
    """Housekeeping of one model's queue. Every operation is harmless when it is repeated. All raise Unavailable."""

    async def sweep(self, model: str) -> int:
        """As in LabelQueue."""

    async def until_durable(self, models: Collection[str]) -> None:
        """As in LabelQueue."""

    async def forget(self, model: str) -> int:
        """Ends arrivals that never came, and samples past their retention. How many there were."""

    async def garbage(self, model: str, n: int, until: Garbage | None = None) -> list[Garbage]:
        """Up to n blobs to be deleted, in the order of their marks; none that was discarded after `until`."""

    async def deleted(self, model: str, garbage: Sequence[Garbage]) -> None:
        """These blobs are deleted."""

    async def not_deleted(self, model: str, garbage: Sequence[Garbage]) -> None:
        """These blobs could not be deleted: they are put off, so that others come first."""

    async def finish_erasures(self, model: str) -> None:
        """Takes the labels of erased samples out of archives, where the erasure was cut off."""

    async def fill_archive(self, model: str) -> bool:
        """Moves the oldest labels into an archive when there are enough, or old ones. Whether it did."""

    async def image_folder(self, model: str) -> str | None:
        """Folder of this queue's images in the blob store; None when there never was one.

        A server that lost all its data is another queue with another folder, and leaves the images of the first alone.
        """

    async def discard_orphans(self, model: str, images: Sequence[str]) -> int:
        """Makes garbage of those images that no sample has and none that arrives will have. How many there were."""
