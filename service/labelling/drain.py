"""The drain: carries samples from the journal into the blob store and the labelling queue.

One task feeds: oldest first, it announces the samples, writes their images and puts them. The other
settles: it has the server confirm that what was put is durable, and only then deletes the rows. Every step may be done
twice, so a crash anywhere costs nothing but the repetition. An error that meets all entries at hand is
the store's or the server's: the drain backs off and tries for ever. One that meets a single entry parks
that entry, which stays in the journal and is tried again ever more rarely, while the others go on.
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
from service.labelling.queue.blobs import Blob, BlobStore
from service.labelling.queue.label_queue import LabelQueue
from service.labelling.samples.sample import Sample

log = logging.getLogger(__name__)
FEED, SETTLE, PARKED = "the drain (feed)", "the drain (settle)", "the drain (one sample)"  # names in the log
CHUNK = 256  # entries in memory, written and put at a time
MAX_UNSETTLED = 20_000  # samples that were put and wait for the server's disk
PARK_S, PARK_MAX_S = 1.0, 300.0
BACKOFF_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Arrival:
    image: bytes  # the file
    sample: Sample
    is_new: bool = False  # the image is to be written


Arrivals = dict[int, Arrival]  # by row


class LostPuts(Exception):  # noqa: N818 - named after the condition, as in service.errors
    """The server took samples and has them no more: it lost writes in a crash or a failover."""


class Drain:
    """Counters for whoever watches: `drained` samples and `failures`."""

    def __init__(self, journal: Journal, blobs: BlobStore, queue: LabelQueue) -> None:
        self.drained = 0
        self.failures = Failures(log)
        self._journal, self._blobs, self._queue = journal, blobs, queue
        self._unsettled: dict[int, Sample] = {}  # by row
        self._parked_until_s: dict[int, float] = {}  # by row, by the event loop's clock
        self._delays_s: dict[int, float] = {}  # by row, of entries that were parked before
        self._fed = 0  # the row up to which entries were put, parked or left to _rewind
        self._rewind = False
        self._has_unsettled, self._has_room = asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._feeding, self._settling = asyncio.Lock(), asyncio.Lock()

    async def run(self) -> None:
        """Drains until cancelled. Whatever goes wrong is counted and tried again."""
        self._journal.appended.set()  # there may be rows from before
        tasks = [
            asyncio.create_task(self._repeated(FEED, self._wait_for_entries, self._feed), name="feed"),
            asyncio.create_task(self._repeated(SETTLE, self._has_unsettled.wait, self._settle), name="settle"),
        ]
        try:
            await asyncio.gather(*map(asyncio.shield, tasks))
        finally:
            await asyncio.gather(*map(end, tasks))

    async def flush(self, timeout_s: float) -> None:
        """Drains once more, for a shutdown. What is not done in time waits in the journal for the next start."""
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
        """Until something is appended or a parked entry is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._parked_until_s.values(), default=None)):
                await self._journal.appended.wait()
        self._journal.appended.clear()
        now_s = asyncio.get_running_loop().time()
        for row in [row for row, until_s in self._parked_until_s.items() if until_s <= now_s]:
            del self._parked_until_s[row]
            self._rewind = True

    async def _feed(self) -> None:
        """Puts all that is in the journal behind the row fed last, or from its start after a rewind."""
        async with self._feeding:
            while True:
                await self._has_room.wait()
                if self._rewind:
                    self._rewind, self._fed = False, 0
                unsettled = frozenset(self._unsettled)  # one that is settled meanwhile may be read all the same
                entries = await self._journal.oldest(CHUNK, after=self._fed)
                if not entries:
                    return
                await self._put(
                    [entry for entry in entries if entry.row not in unsettled | self._parked_until_s.keys()]
                )
                self._fed = entries[-1].row

    async def _put(self, entries: Sequence[Entry]) -> None:
        """Announced first, images next, then one put for all."""
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
        """Those whose image is safe."""
        new = {row: arrival for row, arrival in arrivals.items() if arrival.is_new}
        outcomes = await self._blobs.put_all(
            [Blob(new[row].sample.image, new[row].image, new[row].sample.content_type) for row in new]
        )
        failed = self._parked(dict(zip(new, outcomes, strict=True)))
        return {row: arrival for row, arrival in arrivals.items() if row not in failed}

    async def _queued(self, arrivals: Arrivals) -> tuple[frozenset[str], Arrivals]:
        """The ids that must be announced again, and what the queue did not refuse."""
        try:
            return await self._queue.put([arrival.sample for arrival in arrivals.values()]), arrivals
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - one of them is refused; putting each alone tells which
            outcomes = await asyncio.gather(
                *(self._queue.put([arrival.sample]) for arrival in arrivals.values()), return_exceptions=True
            )
        failed = self._parked(
            {row: x if isinstance(x, BaseException) else None for row, x in zip(arrivals, outcomes, strict=True)}
        )
        again = frozenset[str]().union(*(x for x in outcomes if not isinstance(x, BaseException)))
        return again, {row: arrival for row, arrival in arrivals.items() if row not in failed}

    async def _settle(self) -> None:
        """Deletes the rows of what the server will keep; what it has lost is fed again."""
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
                self._delays_s.pop(row, None)
            if not self._delays_s:
                self.failures.over(PARKED)
            self._signal()
            if len(rows) < len(batch):
                # Put under its old name, a sample that the server lost leaves its image to be deleted.
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
        """Parks the rows at fault and returns them.

        When all of several fail, or one for want of its server, it is not theirs, and the error is raised.
        """
        failed = {row: error for row, error in outcomes.items() if error}
        first = next(iter(failed.values()), None)
        if first and len(failed) == len(outcomes) and (len(outcomes) > 1 or isinstance(first, Unavailable)):
            raise first
        for row, error in failed.items():
            self._park(row, error)
        return frozenset(failed)

    def _park(self, row: int, error: BaseException) -> None:
        delay_s = min(2 * self._delays_s.get(row, PARK_S / 2), PARK_MAX_S)
        self._delays_s[row] = delay_s
        self._parked_until_s[row] = asyncio.get_running_loop().time() + delay_s
        self.failures.note(PARKED, error)
