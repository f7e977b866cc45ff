"""The queue in front of an engine.

No timer delays a batch. A free worker takes its share of the items that have queued up, at most `max_batch`, and runs
them in a thread. `inference.admission` limits the length of the queue. An item whose client has left, or whose deadline
has passed, is not computed. A batch that fails is halved until the items that cause it are found. A worker that dies is
started again. A run that hangs ends the process, because a thread cannot be stopped.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import DeadlineExceeded, ModelFault, ServiceError, Unavailable

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")

EXIT_HUNG = 70  # EX_SOFTWARE
LAST_WORDS_S = 1.0  # from the end of readiness to the end of the process: time to send replies that are ready
RESTART_S, MAX_RESTART_S = 0.1, 5.0  # pause before a worker starts again, doubled each time it dies soon


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[Out]):
    output: Out
    wait_s: float
    run_s: float
    batch_size: int


@dataclass(slots=True)
class _Item(Generic[In, Out]):
    input: In
    queued_at: float
    deadline: float
    future: asyncio.Future[BatchResult[Out]]


def end_process() -> None:
    """Ends the process at once, without waiting for its threads. The journal is on disk."""
    logging.shutdown()
    os._exit(EXIT_HUNG)


class Batcher(Generic[In, Out]):
    """Runs `run` on batches: n inputs in, n outputs out, called from threads. An output may be an error of its item."""

    def __init__(
        self,
        run: Callable[[Sequence[In]], Sequence[Out | ServiceError]],
        *,
        max_batch: int,
        workers: int,
        name: str = "model",
        hang_s: float = 30.0,
    ) -> None:
        """name: for the log. hang_s: a run that takes longer counts as hung, and the process ends."""
        self._run = run
        self._max_batch = max_batch
        self._workers = workers
        self._name = name
        self._hang_s = hang_s
        self._queue: asyncio.Queue[_Item[In, Out]] = asyncio.Queue()  # bounded by admission
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=f"engine-{name}")
        self._working: list[asyncio.Task[None]] = []
        self._dead = 0  # workers
        self._hung = False

    async def __aenter__(self) -> "Batcher[In, Out]":
        self._working = [
            asyncio.create_task(self._keep_working(), name=f"{self._name}-{n}") for n in range(self._workers)
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        for item in self._take(self._queue.qsize()):
            item.future.cancel()
        try:
            await asyncio.wait_for(asyncio.to_thread(self._threads.shutdown), self._hang_s)
        except TimeoutError:
            self._hang([])

    @property
    def alive(self) -> bool:
        """Whether every worker runs. Readiness depends on it."""
        return bool(self._working) and not (self._dead or self._hung or any(task.done() for task in self._working))

    async def __call__(self, item: In, deadline: float = math.inf) -> BatchResult[Out]:
        """The output for one item. deadline: of `time.monotonic`; after it the item is not computed.

        Raises ModelFault when the item makes the model fail, DeadlineExceeded when its turn came too late,
        Unavailable when its worker died or the model hangs.
        """
        if self._hung:
            raise _hanging()
        future: asyncio.Future[BatchResult[Out]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Item(item, time.perf_counter(), deadline, future))
        return await future

    async def _keep_working(self) -> None:
        """One worker, which starts again when it dies."""
        pause_s = RESTART_S
        while True:
            began = time.monotonic()
            try:
                await self._work()
            except asyncio.CancelledError:  # closing
                raise
            except BaseException:  # the worker must start again after any error
                log.exception("a worker of %s died; it starts again in %g s", self._name, pause_s)
            self._dead += 1
            await asyncio.sleep(pause_s)
            self._dead -= 1
            pause_s = min(2 * pause_s, MAX_RESTART_S) if time.monotonic() - began < MAX_RESTART_S else RESTART_S

    async def _work(self) -> None:
        while True:
            first = await self._queue.get()
            share = math.ceil((self._queue.qsize() + 1) / self._workers)  # the other workers take the rest soon
            batch = [first, *self._take(min(share, self._max_batch) - 1)]
            try:
                await self._answer(batch)
            except asyncio.CancelledError:  # closing: no caller may wait without end
                for item in batch:
                    item.future.cancel()
                raise
            except BaseException:
                _refuse(batch, Unavailable("the engine's worker died over this batch: retry"))
                raise

    def _take(self, most: int) -> list[_Item[In, Out]]:
        return [self._queue.get_nowait() for _ in range(min(most, self._queue.qsize()))]

    async def _answer(self, batch: list[_Item[In, Out]]) -> None:
        """Answers each item. A part that fails is halved, so that only the items that cause it get the error.

        One bad item of n costs 2 log2(n) more runs. A model that fails on every item costs fewer than two runs an item.
        """
        parts = [batch]
        while parts:
            now = time.monotonic()
            part = [item for item in parts.pop() if _wanted(item, now)]
            if not part:
                continue
            fault = await self._run_part(part, batch)
            if fault is None:
                continue
            if len(part) == 1:
                _refuse(part, fault)
            else:
                half = len(part) // 2
                parts += [part[half:], part[:half]]

    async def _run_part(self, part: list[_Item[In, Out]], batch: list[_Item[In, Out]]) -> ServiceError | None:
        """Answers the items of a part of a batch, or returns the error of the run."""
        started, loop = time.perf_counter(), asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, self._run, [item.input for item in part])
        limit = loop.call_later(self._hang_s, self._hang, batch)
        try:
            outputs = await running
        except Exception as error:  # noqa: BLE001 - a model may raise anything; callers get the error, and the worker goes on
            return error if isinstance(error, ServiceError) else ModelFault(f"the model failed: {error}")
        finally:
            limit.cancel()
        if len(outputs) != len(part):
            return ModelFault(f"the model gave {len(outputs)} outputs for {len(part)} images")
        run_s = time.perf_counter() - started
        for item, output in zip(part, outputs, strict=True):
            if isinstance(output, ServiceError):
                _refuse([item], output)
            elif not item.future.done():
                item.future.set_result(BatchResult(output, started - item.queued_at, run_s, len(part)))
        return None

    def _hang(self, batch: list[_Item[In, Out]]) -> None:
        """Refuses all items that wait, and ends the process a moment later."""
        if not self._hung:
            self._hung = True
            message = "%s hangs: no answer in %g s; this process ends with code %d, to be started again"
            log.critical(message, self._name, self._hang_s, EXIT_HUNG)
            asyncio.get_running_loop().call_later(LAST_WORDS_S, end_process)
        _refuse([*batch, *self._take(self._queue.qsize())], _hanging())


def _hanging() -> Unavailable:
    return Unavailable("the model hangs and the service ends itself, to be started again: retry")


def _refuse(items: list[_Item[In, Out]], error: ServiceError) -> None:
    for item in items:
        if not item.future.done():
            item.future.set_exception(error)


def _wanted(item: _Item[In, Out], now: float) -> bool:
    """Whether a caller still waits for the item. One that is past its deadline gets the error here."""
    if now >= item.deadline and not item.future.done():
        item.future.set_exception(DeadlineExceeded("the deadline passed before the image's turn: retry, or allow more"))
    return not item.future.done()
