"""The drain: carries samples from the journal into the blob store and the labelling queue.

For each sample, oldest first: write the blob, put the sample, have the server confirm that the put is
durable, and only then delete the row. Every step may be done twice, so a crash anywhere costs nothing
but the repetition. An error that meets all entries at hand is the store's or the server's: the drain
backs off and tries for ever. One that meets a single entry parks that entry, which stays in the
journal and is tried again ever more rarely, and the others go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import stamina

from service.errors import Unavailable
from service.labelling.blobs import BlobStore
from service.labelling.journal import Journal
from service.labelling.journal_table import Entry
from service.labelling.queue import LabelQueue
from service.labelling.sample import Sample

CHUNK = 64  # entries in memory, written and put at a time
ROUND = 4096  # entries that share one confirmation by the server
PARK_S, PARK_MAX_S = 1.0, 300.0


class LostPuts(Exception):  # noqa: N818 - named after the condition, as in service.errors
    """The server took samples and has them no more: it lost writes in a crash or a failover."""


@dataclass(frozen=True, slots=True)
class _Parked:
    until_s: float  # by the event loop's clock
    delay_s: float


class Drain:
    """Counters for whoever watches: `drained` samples, `errors` met, `last_error` (None while all is well)."""

    def __init__(self, journal: Journal, blobs: BlobStore, queue: LabelQueue) -> None:
        self.drained = 0
        self.errors = 0
        self.last_error: str | None = None
        self._journal, self._blobs, self._queue = journal, blobs, queue
        self._parked: dict[int, _Parked] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Drains until cancelled. Whatever goes wrong is counted and tried again."""
        retry = stamina.retry_context(
            on=Exception, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0, wait_jitter=0.5
        )
        while True:
            self._journal.appended.clear()
            async for attempt in retry:
                with attempt:
                    await self._drain()
            await self._wait()

    async def flush(self, timeout_s: float) -> None:
        """Drains once more, for a shutdown. What is not done in time waits in the journal for the next start."""
        with suppress(Exception):  # counted in _drain
            async with asyncio.timeout(timeout_s):
                await self._drain()

    async def _drain(self) -> None:
        """Everything in the journal that is not parked, once."""
        async with self._turn:
            try:
                await self._drain_rounds()
            except Exception as error:
                self._note(error)
                raise
            if not self._parked:
                self.last_error = None

    async def _drain_rounds(self) -> None:
        entries = await self._journal.oldest(CHUNK)
        while entries:
            put: dict[int, Sample] = {}
            while entries and len(put) < ROUND:
                put |= await self._put([entry for entry in entries if self._is_due(entry.row)])
                entries = await self._journal.oldest(CHUNK, after=entries[-1].row)
            await self._finish(put)

    async def _put(self, entries: Sequence[Entry]) -> dict[int, Sample]:
        """Blobs, then one put for all. The samples that are in the queue now, by row."""
        samples = await self._each(entries, self._write_blob)
        try:
            await self._queue.put(list(samples.values()))
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - one of them is refused; putting each alone tells which
            return await self._each([entry for entry in entries if entry.row in samples], self._put_alone)
        return samples

    async def _write_blob(self, entry: Entry) -> Sample:
        sample = entry.sample
        await self._blobs.put(sample.id, entry.image, sample.content_type)
        return sample

    async def _put_alone(self, entry: Entry) -> Sample:
        await self._queue.put([entry.sample])
        return entry.sample

    async def _finish(self, put: dict[int, Sample]) -> None:
        if not put:
            return
        settled = await self._queue.settle(list(put.values()))
        rows = [row for row, sample in put.items() if sample.id in settled]
        await self._journal.delete(rows)
        self.drained += len(rows)
        for row in rows:
            self._parked.pop(row, None)
        if len(rows) < len(put):
            raise LostPuts(f"the queue's server lost {len(put) - len(rows)} samples; they are put again")

    async def _each(self, entries: Sequence[Entry], step: Callable[[Entry], Awaitable[Sample]]) -> dict[int, Sample]:
        """What `step` makes of each entry, by row. Those at fault are parked.

        When all of several fail, or one for want of its server, it is not theirs, and the error is raised.
        """
        outcomes = await asyncio.gather(*map(step, entries), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failed and len(failed) == len(entries) and (len(entries) > 1 or isinstance(failed[0], Unavailable)):
            raise failed[0]
        made: dict[int, Sample] = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                self._park(entry, outcome)
            else:
                made[entry.row] = outcome
        return made

    def _park(self, entry: Entry, error: BaseException) -> None:
        before = self._parked.get(entry.row)
        delay_s = min(2 * before.delay_s, PARK_MAX_S) if before else PARK_S
        self._parked[entry.row] = _Parked(asyncio.get_running_loop().time() + delay_s, delay_s)
        self._note(error)

    def _is_due(self, row: int) -> bool:
        parked = self._parked.get(row)
        return parked is None or parked.until_s <= asyncio.get_running_loop().time()

    async def _wait(self) -> None:
        """Until something is appended or a parked entry is due."""
        due_s = min((parked.until_s for parked in self._parked.values()), default=None)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due_s):
                await self._journal.appended.wait()

    def _note(self, error: BaseException) -> None:
        self.errors += 1
        self.last_error = f"{type(error).__name__}: {' '.join(str(error).split())}"
