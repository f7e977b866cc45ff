"""The drain carries samples from the journal into the blob store and the labelling queue.

One task feeds, oldest samples first: it announces them, writes their images and puts them into the queue. Another task
settles: it waits until the server would keep them through a crash, and only then deletes their rows. Every step may be
repeated, so a crash at any point costs only the repetition. If all entries at hand fail, the store or the server is at
fault: the drain backs off and tries again until it works. If a single entry fails, it is parked: it stays in the
journal and is tried again more and more rarely, while the others go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from service.background import Failures, end, run_again
from service.errors import Unavailable
from service.labelling.journal.journal import Journal
from service.labelling.journal.table import Entry
from service.labelling.parking import Parking, own_failures
from service.labelling.queue.blobs import Blob, BlobStore
from service.labelling.queue.label_queue import LabelQueue
from service.labelling.samples.sample import Sample

log = logging.getLogger(__name__)
FEED, SETTLE, PARKED = "the drain (feed)", "the drain (settle)", "the drain (one sample)"  # names in the log
CHUNK = 256  # entries in memory, written and put at a time
MAX_UNSETTLED = 20_000  # samples in the queue that wait for the server's disk
BACKOFF_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Arrival:
    image: bytes  # the file
    sample: Sample
    is_new: bool = False  # the image must be written


Arrivals = dict[int, Arrival]  # by row


class LostPuts(Exception):  # noqa: N818 - named after the condition, as in service.errors
    """The server had taken samples and does not have them any more: it lost writes in a crash or a failover."""


class Drain:
    """Counters for whoever watches: `drained` samples and `failures`."""

    def __init__(self, journal: Journal, blobs: BlobStore, queue: LabelQueue) -> None:
        self.drained = 0
        self.failures = Failures(log)
        self._journal, self._blobs, self._queue = journal, blobs, queue
        self._unsettled: dict[int, Sample] = {}  # by row
        self._parking = Parking()
        self._fed = 0  # entries up to this row were put, are parked, or wait for _rewind
        self._rewind = False
        self._has_unsettled, self._has_room = asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._feeding, self._settling = asyncio.Lock(), asyncio.Lock()

    async def run(self) -> None:
        """Drains until cancelled. A failure is counted and tried again."""
        self._journal.appended.set()  # there may be rows from an earlier run
        tasks = [
            asyncio.create_task(self._repeated(FEED, self._wait_for_entries, self._feed), name="feed"),
            asyncio.create_task(self._repeated(SETTLE, self._has_unsettled.wait, self._settle), name="settle"),
        ]
        try:
            await asyncio.gather(*map(asyncio.shield, tasks))
        finally:
            await asyncio.gather(*map(end, tasks))

    async def flush(self, timeout_s: float) -> None:
        """Drains once more, for a shutdown. Samples that miss the time limit wait in the journal for the next start."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._feed()
                await self._settle()
        except Exception as error:  # noqa: BLE001 - best effort; nothing is lost
            self.failures.note(FEED, error)

    async def _repeated(
        self, name: str, wait: Callable[[], Awaitable[object]], work: Callable[[], Awaitable[None]]
    ) -> None:
        await run_again(name, wait, work, self.failures, max_wait_s=BACKOFF_MAX_S)

    async def _wait_for_entries(self) -> None:
        """Returns when a sample was appended or a parked entry is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._parking.next_due_s):
                await self._journal.appended.wait()
        self._journal.appended.clear()
        self._rewind |= self._parking.release_due()

    async def _feed(self) -> None:
        """Puts all entries of the journal after the row that was fed last; after a rewind, from its start."""
        async with self._feeding:
            while True:
                await self._has_room.wait()
                if self._rewind:
                    self._rewind, self._fed = False, 0
                unsettled = frozenset(self._unsettled)  # copied: an entry that is settled meanwhile may still be read
                entries = await self._journal.oldest(CHUNK, after=self._fed)
                if not entries:
                    return
                await self._put(
                    [entry for entry in entries if entry.row not in unsettled and entry.row not in self._parking]
                )
                self._fed = entries[-1].row

    async def _put(self, entries: Sequence[Entry]) -> None:
        """Announces the samples, then writes their images, then puts all samples at once."""
        arrivals = await self._announced(self._readable(entries))
        written = await self._written(arrivals)
        again, put = await self._queued(written)
        self._unsettled |= {row: arrival.sample for row, arrival in put.items() if arrival.sample.id not in again}
        self._signal()
        if again:
            self._start_over()

    def _readable(self, entries: Sequence[Entry]) -> Arrivals:
        arrivals: Arrivals = {}
        for entry in entries:
            try:
                arrivals[entry.row] = Arrival(entry.image, entry.sample)
            except ValueError as error:
                self._park(entry.row, error)
        return arrivals

    async def _announced(self, arrivals: Arrivals) -> Arrivals:
        announced = await self._queue.announce([arrival.sample for arrival in arrivals.values()])
        named: Arrivals = {}
        for row, arrival in arrivals.items():
            image = announced[arrival.sample.id]
            named[row] = Arrival(arrival.image, replace(arrival.sample, blob=image.image), image.is_new)
        return named

    async def _written(self, arrivals: Arrivals) -> Arrivals:
        """The arrivals whose image is safe."""
        new = {row: arrival for row, arrival in arrivals.items() if arrival.is_new}
        outcomes = await self._blobs.put_all(
            [Blob(new[row].sample.image, new[row].image, new[row].sample.content_type) for row in new]
        )
        failed = self._parked(dict(zip(new, outcomes, strict=True)))
        return {row: arrival for row, arrival in arrivals.items() if row not in failed}

    async def _queued(self, arrivals: Arrivals) -> tuple[frozenset[str], Arrivals]:
        """The ids that must be announced again, and the arrivals that the queue did not refuse."""
        try:
            return await self._queue.put([arrival.sample for arrival in arrivals.values()]), arrivals
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - the queue refuses one of them; each put alone shows which
            outcomes = await asyncio.gather(
                *(self._queue.put([arrival.sample]) for arrival in arrivals.values()), return_exceptions=True
            )
        failed = self._parked(
            {row: x if isinstance(x, BaseException) else None for row, x in zip(arrivals, outcomes, strict=True)}
        )
        again = frozenset[str]().union(*(x for x in outcomes if not isinstance(x, BaseException)))
        return again, {row: arrival for row, arrival in arrivals.items() if row not in failed}

    async def _settle(self) -> None:
        """Deletes the rows of samples that the server will keep. Samples that it has lost are fed again."""
        async with self._settling:
            batch = dict(self._unsettled)
            if not batch:
                return
            held = await self._queue.settle(list(batch.values()))
            rows = [row for row, sample in batch.items() if sample.id in held]
            await self._journal.delete(rows)
            self.drained += len(rows)
            for row in batch:
                self._unsettled.pop(row)
                self._parking.done(row)
            if self._parking.is_over:
                self.failures.over(PARKED)
            self._signal()
            if len(rows) < len(batch):
                # The server does not know these images any more. This put makes it delete them.
                await self._queue.put([sample for sample in batch.values() if sample.id not in held])
                self._start_over()
                raise LostPuts(f"the queue's server lost {len(batch) - len(rows)} samples; they are put again")

    def _signal(self) -> None:
        for event, is_set in (
            (self._has_unsettled, bool(self._unsettled)),
            (self._has_room, len(self._unsettled) < MAX_UNSETTLED),
        ):
            if is_set:
                event.set()
            else:
                event.clear()

    def _start_over(self) -> None:
        self._rewind = True
        self._journal.appended.set()

    def _parked(self, outcomes: Mapping[int, BaseException | None]) -> frozenset[int]:
        """Parks the rows that failed on their own, and returns them. Raises the error if the fault is not theirs."""
        failed = own_failures(outcomes)
        for row, error in failed.items():
            self._park(row, error)
        return frozenset(failed)

    def _park(self, row: int, error: BaseException) -> None:
        self._parking.park(row)
        self.failures.note(PARKED, error)
