"""Models that raise, die and hang: which callers get the error, and which ones get their answers."""

import asyncio
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import stamina

from service.errors import ModelFault, ServiceError, TooLarge, Unavailable
from service.inference import batcher as batcher_module
from service.inference.batcher import EXIT_HUNG, Batcher

N = 16


class Allergic:
    """Raises at batches that hold one of the given numbers."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = set(numbers)
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if self.numbers & set(items):
            raise ValueError(f"allergic to {self.numbers & set(items)}")
        return [2 * item for item in items]


def echo(items: Sequence[int]) -> Sequence[int]:
    return items


async def ask_all(double: Batcher[int, int], n: int = N) -> list[int | BaseException]:
    """The outputs of 0 to n - 1, or the errors."""
    answers = await asyncio.gather(*(double(number) for number in range(n)), return_exceptions=True)
    return [answer if isinstance(answer, BaseException) else answer.output for answer in answers]


@pytest.mark.parametrize("culprit", range(N))
async def test_only_the_item_that_makes_a_batch_fail_gets_the_error(culprit: int) -> None:
    run = Allergic(culprit)
    async with Batcher(run, max_batch=N, workers=1) as double:
        answers = await ask_all(double)
    assert isinstance(answers.pop(culprit), ModelFault)
    assert answers == [2 * number for number in range(N) if number != culprit]
    assert run.batches[0] == list(range(N))
    assert len(run.batches) - 1 <= 2 * math.log2(N)


@pytest.mark.parametrize("culprits", [(0, 1), (3, 12), (14, 15), (2, 7, 11), range(4, 10), range(8)])
async def test_several_items_that_make_a_batch_fail_are_found(culprits: Sequence[int]) -> None:
    async with Batcher(Allergic(*culprits), max_batch=N, workers=1) as double:
        answers = await ask_all(double)
    assert [number for number, answer in enumerate(answers) if isinstance(answer, ModelFault)] == list(culprits)


@pytest.mark.parametrize("n", [2, 7, 16, 32])
async def test_a_model_that_fails_on_every_item_costs_fewer_than_two_runs_an_item(n: int) -> None:
    run = Allergic(*range(n))
    async with Batcher(run, max_batch=n, workers=1) as double:
        answers = await ask_all(double, n)
        assert double.alive
    assert all(isinstance(answer, ModelFault) for answer in answers)
    assert len(run.batches) == 2 * n - 1


async def test_an_item_whose_client_leaves_during_the_search_is_not_computed_again() -> None:
    gate, entered = threading.Event(), threading.Event()
    batches = []

    def run(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        if len(batches) == 1:
            entered.set()
            assert gate.wait(10)
            raise ValueError("once")
        return list(items)

    async with Batcher(run, max_batch=4, workers=1) as same:
        tasks = [asyncio.create_task(same(number)) for number in range(4)]
        await asyncio.to_thread(entered.wait, 10)
        tasks[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        assert [(await task).output for task in tasks[1:]] == [1, 2, 3]
    assert batches == [[0, 1, 2, 3], [1], [2, 3]]


async def test_an_output_may_be_the_error_of_its_own_item() -> None:
    def run(items: Sequence[int]) -> list[int | ServiceError]:
        return [TooLarge("too large") if item == 2 else item for item in items]

    async with Batcher(run, max_batch=4, workers=1) as same:
        answers = await ask_all(same, 4)
    assert isinstance(answers[2], TooLarge)
    assert [answers[0], answers[1], answers[3]] == [0, 1, 3]


async def test_a_worker_that_dies_fails_its_items_is_not_ready_and_comes_back() -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise SystemExit  # no error that a model raises: it ends the worker
        return list(items)

    async with Batcher(run, max_batch=4, workers=1) as same:
        with pytest.raises(Unavailable, match="died"):
            await same(13)
        assert not same.alive
        assert (await same(1)).output == 1  # waited for the worker to start again
        assert same.alive


async def test_of_two_workers_one_goes_on_while_the_other_is_dead() -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise SystemExit
        return list(items)

    async with Batcher(run, max_batch=1, workers=2) as same:
        with pytest.raises(Unavailable):
            await same(13)
        assert (await same(1)).output == 1
        assert not same.alive


class Stuck:
    """Hangs on 13 until it is let go."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        if 13 in items:
            self.entered.set()
            assert self.gate.wait(30)
        return list(items)


@contextmanager
def stuck() -> Iterator[Stuck]:
    run = Stuck()
    yield run
    run.gate.set()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the process would end."""
    event = asyncio.Event()
    monkeypatch.setattr(batcher_module, "end_process", event.set)
    return event


async def test_a_run_that_hangs_ends_the_process_after_all_callers_got_an_error(
    caplog: pytest.LogCaptureFixture, ended: asyncio.Event
) -> None:
    with stuck() as run:
        async with Batcher(run, max_batch=1, workers=1, hang_s=0.5) as same:
            waiting = asyncio.create_task(same(1))  # answered before the other hangs
            assert (await waiting).output == 1
            hanging, queued = asyncio.create_task(same(13)), asyncio.create_task(same(2))
            for task in (hanging, queued):
                with pytest.raises(Unavailable, match="hangs"):
                    await task
            assert not same.alive
            with pytest.raises(Unavailable, match="hangs"):
                await same(3)
            assert not ended.is_set()  # replies go out first
            await asyncio.wait_for(ended.wait(), 10)
            run.gate.set()
    lines = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert lines == [f"model hangs: no answer in 0.5 s; this process ends with code {EXIT_HUNG}, to be started again"]


async def test_when_a_part_of_a_failed_batch_hangs_the_other_part_gets_an_error_too(ended: asyncio.Event) -> None:
    gate, runs = threading.Event(), 0

    def run(_: Sequence[int]) -> list[int]:
        nonlocal runs
        runs += 1
        if runs > 1:
            gate.wait(10)
        raise ValueError("no")

    async with Batcher(run, max_batch=4, workers=1, hang_s=0.05) as same:
        answers = await asyncio.gather(*(same(number) for number in range(4)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 4
        await asyncio.wait_for(ended.wait(), 10)
        gate.set()


async def test_a_run_that_hangs_does_not_keep_the_service_from_closing(ended: asyncio.Event) -> None:
    with stuck() as run:
        async with Batcher(run, max_batch=1, workers=1, hang_s=0.3) as same:
            hanging = asyncio.create_task(same(13))
            assert await asyncio.to_thread(run.entered.wait, 10)
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_run_that_takes_less_than_the_limit_ends_nothing(ended: asyncio.Event) -> None:
    async with Batcher(echo, max_batch=1, workers=1, hang_s=0.5) as same:
        for attempt in range(20):
            assert (await same(attempt)).output == attempt
            await asyncio.sleep(0.03)  # in all longer than the limit, while each run is over at once
        assert same.alive
    assert not ended.is_set()


async def test_on_a_machine_without_free_threads_items_fail_and_the_service_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Batcher(echo, max_batch=1, workers=1) as same:
        with monkeypatch.context() as short:

            def no_thread(*_: object) -> None:
                raise RuntimeError("can't start new thread")

            short.setattr(same._threads, "submit", no_thread)
            with pytest.raises(Unavailable):
                await same(1)
        async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=10, wait_max=0.05):
            with attempt:
                assert same.alive
        assert (await same(2)).output == 2
