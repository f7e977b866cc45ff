"""Endings: a label, a rejection or an erasure takes a sample off the queue for good.

The queue's server decides first, since it alone knows the sample's state. An ending that it accepted is then kept in
the journal, and only then confirmed to the caller. In the background the service waits until the server would keep its
data through a crash, and sends the ending again. If the server still has it, the journal drops it. If the server has
lost it, the server accepts it once more. So a confirmed label stays, whatever process is killed. While the journal
cannot keep an ending, its caller waits for the server's disk instead, which takes seconds.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from service.background import Failures, run_again
from service.errors import Conflict, Erased, Held, NotFound, Unavailable
from service.labelling.journal.errors import JournalUnavailable
from service.labelling.journal.journal import Journal
from service.labelling.journal.table import KeptEnding
from service.labelling.queue.label_queue import EndState, LabelQueue

log = logging.getLogger(__name__)
NAME = "the settling of labels, rejections and erasures"
CHUNK = 1000  # endings in memory at a time
AT_ONCE = 16
BACKOFF_MAX_S = 1.0  # short: a server that is back may lease out samples that it forgot were labelled
PATIENCE_S = 86_400.0  # the server may have lost the sample; the journal of some replica may bring it back

EndingResult = EndState | Exception  # what the server said to an ending


class Unsettled(Exception):  # noqa: N818 - named after the condition, as in service.errors
    """The server had lost endings and got them again, or it does not have their samples yet."""


@dataclass(frozen=True, slots=True)
class Ending:
    kind: Literal["label", "rejection", "erasure"]
    model: str
    sample_id: str
    annotator: str = ""
    token: str = ""
    content: Any = None  # the label, or the reason of the rejection

    async def apply(self, queue: LabelQueue) -> EndState:
        """Raises NotFound, Conflict or Unavailable."""
        match self.kind:
            case "label":
                return await queue.label(self.model, self.sample_id, self.annotator, self.token, self.content)
            case "rejection":
                return await queue.reject(self.model, self.sample_id, self.annotator, self.token, self.content)
            case "erasure":
                if state := await queue.erase(self.model, self.sample_id):
                    return state
                raise NotFound(f"no sample {self.sample_id} in the queue of model {self.model}")

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, data: bytes) -> "Ending":
        return cls(**orjson.loads(data))


class Endings:
    """Counters for whoever watches: endings that the server lost and were `restored` or `given_up`; and `failures`."""

    def __init__(self, journal: Journal, queue: LabelQueue) -> None:
        self.restored = 0
        self.given_up = 0  # endings that were confirmed and lost, and that the server cannot accept any more
        self.failures = Failures(log)
        self._journal, self._queue = journal, queue
        self._may_be_lost = True  # the server may have crashed since the last time

    async def end(self, ending: Ending) -> EndState:
        """Returns once the ending is safe. Raises NotFound or Conflict when the queue does not take it, or Unavailable.

        After Unavailable the queue may have it or not: sending it again is harmless and gives the answer.
        """
        state = await ending.apply(self._queue)
        try:
            await self._journal.keep(ending.to_json())
        except JournalUnavailable:
            await self._on_the_servers_disk(ending)
        return state

    async def run(self) -> None:
        """Settles the endings in the journal until cancelled. A failure is counted and tried again."""
        self._journal.kept.set()  # there may be endings from an earlier run
        await run_again(NAME, self._wait_for_endings, self.settle, self.failures, max_wait_s=BACKOFF_MAX_S)

    async def settle(self) -> None:
        """Sends endings again; the journal drops those that the server keeps. Raises Unsettled if some are left."""
        last, unsettled = 0, 0
        may_be_lost, self._may_be_lost = self._may_be_lost, True  # until everything is settled
        trouble: Exception | None = None
        while kept := await self._journal.oldest_endings(CHUNK, after=last):
            last = kept[-1].row
            if may_be_lost:
                await self._all_sent(kept)
            await self._queue.until_durable({Ending.from_json(one.ending).model for one in kept})
            results = await self._all_sent(kept)
            done = [one.row for one, result in zip(kept, results, strict=True) if self._is_over(one, result)]
            await self._journal.drop(done)
            unsettled += len(kept) - len(done)
            trouble = next((one for one in results if isinstance(one, Exception)), trouble)
        if unsettled:
            words = f"{unsettled} labels, rejections or erasures are not safe yet in the queue's server"
            raise Unsettled(words) from trouble
        self._may_be_lost = False

    async def _wait_for_endings(self) -> None:
        await self._journal.kept.wait()
        self._journal.kept.clear()

    async def _all_sent(self, kept: Sequence[KeptEnding]) -> list[EndingResult]:
        """Sends AT_ONCE at a time. One that fails does not stop the others; if all of them fail, this raises."""
        results: list[EndingResult] = []
        for start in range(0, len(kept), AT_ONCE):
            some = await asyncio.gather(*map(self._sent, kept[start : start + AT_ONCE]))
            results += some
            failures = [one for one in some if isinstance(one, Unavailable)]
            if len(failures) == AT_ONCE:
                raise failures[0]
        return results

    async def _sent(self, kept: KeptEnding) -> EndingResult:
        """The server's result for this ending now. If it had lost the ending, it accepts it again."""
        try:
            state = await Ending.from_json(kept.ending).apply(self._queue)
        except Exception as error:  # noqa: BLE001 - an error concerns this row alone
            return error
        self.restored += state == "accepted"
        return state

    def _is_over(self, kept: KeptEnding, result: EndingResult) -> bool:
        """Whether there is nothing more to do for it."""
        match result:
            case "repeated" | Erased():
                return True
            case NotFound() | Held() if time.time() < kept.kept_at + PATIENCE_S:
                return False
            case NotFound() | Conflict():
                self.given_up += 1
                log.error("the queue's server lost %s, and it is given up: %s", kept.ending.decode(), result)
                return True
            case _:
                return False

    async def _on_the_servers_disk(self, ending: Ending) -> None:
        state: EndState = "accepted"
        while state != "repeated":
            await self._queue.until_durable({ending.model})
            state = await ending.apply(self._queue)
