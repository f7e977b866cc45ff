"""An annotator who skipped more samples than one lease passes over: calls are bounded, and all samples are reached."""

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest_asyncio

from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample

MakeSample = Callable[..., Sample]
Open = Callable[..., RedisQueue]
LONG_S = 3600.0
PASSES = 10  # in each lane
SKIPPED = 55


@pytest_asyncio.fixture
async def queue(open_queue: Open, model: str, make_sample: MakeSample) -> AsyncIterator[RedisQueue]:
    """A queue of 60 samples; ann skipped the 55 most valuable ones."""
    await open_queue().put([make_sample(f"{i}", float(i)) for i in range(60)])
    for one in await open_queue().lease(model, SKIPPED, "ann", "first", LONG_S):
        await open_queue().skip(model, one.sample.id, "ann", "first")
    yield open_queue(max_passed_over=3 * PASSES)


async def values(queue: RedisQueue, model: str, token: str, n: int = 1, annotator: str = "ann") -> list[float]:
    return [one.sample.value for one in await queue.lease(model, n, annotator, token, LONG_S)]


async def calls_until(queue: RedisQueue, model: str, value: float) -> int:
    """How many leases of one sample ann needs to get the one with this value."""
    for call in range(1, 100):
        if value in await values(queue, model, f"until {value} {call}"):
            return call
    raise AssertionError(f"{value} is out of reach")


async def bookmarks(queue: RedisQueue, model: str) -> dict[bytes, bytes]:
    client = cast("Any", queue.scripts.server.client)
    return dict(await client.hgetall(f"losscast:{{{model}}}:queue:bookmarks"))


async def test_one_lease_stops_and_the_next_ones_reach_the_samples_that_were_not_skipped(
    queue: RedisQueue, model: str
) -> None:
    assert await values(queue, model, "1") == []
    assert list((await bookmarks(queue, model)).values()) == [b"10"]
    assert await values(queue, model, "2") == []
    assert list((await bookmarks(queue, model)).values()) == [b"15"]
    assert await calls_until(queue, model, 4.0) == 9
    assert await values(queue, model, "more", 9) == [3.0, 2.0, 1.0, 0.0]
    assert await bookmarks(queue, model) == {}
    assert len(await values(queue, model, "bob's", 99, "bob")) == SKIPPED


async def test_samples_passed_over_in_one_lane_take_nothing_from_another(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample("drawn", 100.0, lane="audit"), make_sample("odd", 200.0, lane="ood_score")])
    assert sorted(await values(queue, model, "1", 9)) == [100.0, 200.0]


async def test_a_sample_that_comes_to_the_front_is_offered_at_once(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    for turn in range(3):
        await values(queue, model, f"{turn}")
    await queue.put([make_sample("new", 99.0)])
    assert await values(queue, model, "new") == [99.0]


async def test_a_sample_behind_the_front_is_offered_after_the_end_of_the_lane(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    for turn in range(6):
        await values(queue, model, f"{turn}")
    await queue.put([make_sample("new", 59.0 - 8.5)])
    assert await values(queue, model, "all", 99) == []
    await calls_until(queue, model, 59.0 - 8.5)


async def test_samples_that_a_lease_takes_move_its_bookmark(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample(f"new {i}", 70.0 + i) for i in range(4)])
    assert await values(queue, model, "1", 9) == [73.0, 72.0, 71.0, 70.0]
    assert list((await bookmarks(queue, model)).values()) == [b"10"]


async def test_nothing_is_out_of_reach_while_others_take_from_the_front(queue: RedisQueue, model: str) -> None:
    got: list[float] = []
    for turn in range(40):
        got += await values(queue, model, f"{turn}", 2)
        await values(queue, model, f"bob's {turn}", 1, "bob")
    assert set(got) == {0.0, 1.0, 2.0, 3.0, 4.0}
