import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from service.errors import DeadlineExceeded, ModelFault, TooLarge
from service.inference.batcher import Batcher


class Doubler:
    """Doubles numbers, batch by batch. It waits while its gate is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.entered.release()
        assert self.gate.wait(10)
        return [2 * item for item in items]


def batcher(run: Doubler, max_batch: int = 4, workers: int = 1) -> Batcher[int, int]:
    return Batcher(run, max_batch=max_batch, workers=workers)


async def held(run: Doubler, double: Batcher[int, int]) -> "asyncio.Task[object]":
    """Puts one item into the engine, which waits with it."""
    run.gate.clear()
    task = asyncio.create_task(double(0))
    await asyncio.to_thread(run.entered.acquire, timeout=10)
    return task


async def test_items_that_queued_while_the_engine_was_busy_become_one_batch() -> None:
    run = Doubler()
    async with batcher(run) as double:
        first = await held(run, double)
        others = [asyncio.create_task(double(number)) for number in range(1, 7)]
        await asyncio.sleep(0)
        run.gate.set()
        answers = await asyncio.gather(*others)
        await first
    assert run.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert [answer.output for answer in answers] == [2, 4, 6, 8, 10, 12]
    assert [answer.batch_size for answer in answers] == [4, 4, 4, 4, 2, 2]


async def test_workers_share_the_items_that_queued_up() -> None:
    run = Doubler()
    async with batcher(run, max_batch=6, workers=2) as double:
        first = await held(run, double)
        second = await held(run, double)
        others = [asyncio.create_task(double(number)) for number in range(1, 7)]
        await asyncio.sleep(0)
        run.gate.set()
        await asyncio.gather(first, second, *others)
    assert sorted(len(batch) for batch in run.batches) == [1, 1, 1, 2, 3]


async def test_an_item_past_its_deadline_gets_an_error_and_is_not_computed() -> None:
    run = Doubler()
    async with batcher(run) as double:
        first = await held(run, double)
        late = asyncio.create_task(double(1, deadline=time.monotonic()))
        fine = asyncio.create_task(double(2, deadline=time.monotonic() + 60))
        await asyncio.sleep(0)
        run.gate.set()
        with pytest.raises(DeadlineExceeded):
            await late
        assert (await fine).output == 4
        await first
    assert run.batches == [[0], [2]]


async def test_every_caller_gets_its_own_answer_under_many_interleavings() -> None:
    async with batcher(Doubler(), max_batch=7, workers=3) as double:

        async def ask(number: int) -> None:
            for _ in range(number % 5):
                await asyncio.sleep(0)
            assert (await double(number)).output == 2 * number

        await asyncio.gather(*(ask(number) for number in range(2000)))


async def test_closing_leaves_nobody_waiting() -> None:
    run = Doubler()
    async with batcher(run) as double:
        inside = await held(run, double)
        queued = asyncio.create_task(double(1))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, run.gate.set)
    for task in (inside, queued):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_item_whose_client_left_is_not_computed() -> None:
    run = Doubler()
    async with batcher(run) as double:
        first = await held(run, double)
        gone, stays = asyncio.create_task(double(1)), asyncio.create_task(double(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        run.gate.set()
        assert (await stays).output == 4
        await first
    assert run.batches == [[0], [2]]


async def test_callers_of_a_failing_batch_get_its_error_and_the_worker_goes_on() -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise ValueError("thirteen")
        return list(items)

    async with Batcher(run, max_batch=1, workers=1) as double:
        with pytest.raises(ModelFault, match="thirteen"):
            await double(13)
        assert (await double(1)).output == 1
        assert double.alive


async def test_a_model_that_returns_too_few_rows_is_a_fault() -> None:
    def run(_: Sequence[int]) -> list[int]:
        return []

    async with Batcher(run, max_batch=1, workers=1) as double:
        with pytest.raises(ModelFault, match="0 outputs for 1"):
            await double(1)


async def test_errors_of_the_service_pass_unchanged() -> None:
    def run(_: Sequence[int]) -> list[int]:
        raise TooLarge("too large")

    async with Batcher(run, max_batch=1, workers=1) as double:
        with pytest.raises(TooLarge):
            await double(1)


async def test_it_is_alive_only_between_start_and_end() -> None:
    double = batcher(Doubler())
    assert not double.alive
    async with double:
        assert double.alive
    assert not double.alive
