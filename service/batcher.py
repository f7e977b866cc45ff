"""The queue in front of an engine.

Nothing waits for a timer: a free worker takes whatever queued up while it was busy, at most
`max_batch` items, and runs it in a thread. `service.admission` bounds what may queue up. Whoever
left, or whose deadline passed, is not computed.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import DeadlineExceeded, ModelFault, ServiceError

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Answer(Generic[Out]):
    output: Out
    wait_s: float
    run_s: float
    batch_size: int


@dataclass(slots=True)
class _Item(Generic[In, Out]):
    input: In
    queued_at: float
    deadline: float
    answer: asyncio.Future[Answer[Out]]


class Batcher(Generic[In, Out]):
    """Runs `run` on batches. `run` is a plain callable: n inputs in, n outputs out, called from threads."""

    def __init__(
        self,
        run: Callable[[Sequence[In]], Sequence[Out]],
        *,
        max_batch: int,
        workers: int,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._workers = workers
        self._queue: asyncio.Queue[_Item[In, Out]] = asyncio.Queue()  # bounded by admission
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="engine")
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Batcher[In, Out]":
        self._tasks = [asyncio.create_task(self._work(), name=f"batcher-{n}") for n in range(self._workers)]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait().answer.cancel()
        await asyncio.to_thread(self._threads.shutdown)

    @property
    def alive(self) -> bool:
        """Whether every worker is running: readiness depends on it."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def __call__(self, item: In, deadline: float = math.inf) -> Answer[Out]:
        """The output for one item. deadline: of `time.monotonic`; after it nobody wants the answer.

        Raises ModelFault when its batch failed, DeadlineExceeded when its turn came too late.
        """
        answer: asyncio.Future[Answer[Out]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Item(item, time.perf_counter(), deadline, answer))
        return await answer

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._max_batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            batch = [item for item in batch if _wanted(item)]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: list[_Item[In, Out]]) -> None:
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            outputs = await loop.run_in_executor(self._threads, self._run, [item.input for item in batch])
            if len(outputs) != len(batch):
                raise ModelFault(f"the model gave {len(outputs)} outputs for {len(batch)} images")  # noqa: TRY301 - told below like any other fault
        except Exception as error:  # noqa: BLE001 - a model may raise anything; its callers are told, the worker lives on
            fault = error if isinstance(error, ServiceError) else ModelFault(f"the model failed: {error}")
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(fault)
            return
        except asyncio.CancelledError:  # closing: nobody must be left waiting
            for item in batch:
                item.answer.cancel()
            raise
        run_s = time.perf_counter() - started
        for item, output in zip(batch, outputs, strict=True):
            if not item.answer.done():
                item.answer.set_result(Answer(output, started - item.queued_at, run_s, len(batch)))


def _wanted(item: _Item[In, Out]) -> bool:
    """Whether somebody still waits for it; who waited for too long is told."""
    if not item.answer.done() and time.monotonic() >= item.deadline:
        item.answer.set_exception(DeadlineExceeded("the deadline passed before the image's turn: retry, or allow more"))
    return not item.answer.done()
