import asyncio
import logging

import pytest

from service.background import Failures, end, run_again

log = logging.getLogger(__name__)


def test_a_failure_is_counted_each_time_and_logged_once_until_it_changes_or_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures(log)
    for words in ("away", "away", "full", "full"):
        failures.note("the drain", OSError(words))
    failures.over("the drain")
    failures.note("the drain", OSError("full"))
    assert [record.getMessage() for record in caplog.records] == [
        f"the drain failed and will try again: OSError: {words}" for words in ("away", "full", "full")
    ]
    assert (failures.errors, failures.last_error) == (5, "OSError: full")


def test_work_of_another_name_neither_hides_nor_ends_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures(log)
    for name in ("a", "b", "a", "b"):
        failures.note(name, OSError("away"))
    failures.over("b")
    failures.note("a", OSError("away"))
    assert len(caplog.records) == 2


def test_the_words_of_a_failure_are_one_line() -> None:
    failures = Failures(log)
    failures.note("a", ValueError("first\n  second"))
    assert failures.last_error == "ValueError: first second"


def test_work_that_succeeds_notes_nothing_and_an_error_passes() -> None:
    failures = Failures(log)
    with failures.noted("a"):
        pass
    assert (failures.errors, failures.last_error) == (0, None)
    with pytest.raises(OSError, match="away"), failures.noted("a"):
        raise OSError("away")
    assert failures.errors == 1


async def test_work_that_fails_is_repeated_until_it_succeeds_and_then_waits_again() -> None:
    calls: list[str] = []
    failures, is_done = Failures(log), asyncio.Event()

    async def wait() -> None:
        calls.append("wait")
        if calls.count("wait") == 2:
            is_done.set()
            await asyncio.Event().wait()

    async def work() -> None:
        calls.append("work")
        if calls.count("work") < 3:
            raise OSError("away")

    task = asyncio.create_task(run_again("the work", wait, work, failures, max_wait_s=0.01))
    async with asyncio.timeout(30):
        await is_done.wait()
    await end(task)
    assert calls == ["wait", "work", "work", "work", "wait"]
    assert failures.errors == 2


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while lost < 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()
    assert lost == 1


async def test_a_task_that_failed_ends_without_a_word() -> None:
    async def fail() -> None:
        raise OSError("away")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    await end(task)
    assert task.done()
