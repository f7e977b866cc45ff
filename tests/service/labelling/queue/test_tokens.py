"""The queue's memory of a lease's token: the samples it holds, and for a while that it held some."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample

MakeSample = Callable[..., Sample]
LONG_S, MEMORY_S = 3600.0, 300.0


class Memory:
    """Looks into the server."""

    def __init__(self, queue: RedisQueue, model: str) -> None:
        self.redis = cast("Any", queue.scripts.server.client)
        self.prefix = f"losscast:{{{model}}}:queue:"

    async def holdings(self) -> int:
        return int(await self.redis.zcard(f"{self.prefix}holdings"))

    async def ends_in_s(self) -> float:
        ((_, ends_us),) = await self.redis.zrange(f"{self.prefix}holders", 0, -1, withscores=True)
        seconds, microseconds = await self.redis.time()
        return float(ends_us / 1e6 - seconds - microseconds / 1e6)

    async def age(self, by_s: float) -> None:
        for member in await self.redis.zrange(f"{self.prefix}holders", 0, -1):
            await self.redis.zincrby(f"{self.prefix}holders", -by_s * 1e6, member)


@pytest.fixture
def memory(queue: RedisQueue, model: str) -> Memory:
    return Memory(queue, model)


async def test_a_token_that_holds_nothing_any_more_is_remembered_for_a_retry_and_then_forgotten(
    queue: RedisQueue, memory: Memory, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample(f"{i}") for i in range(4)])
    labelled, skipped, rejected = await queue.lease(model, 3, "ann", "t", LONG_S)
    await queue.label(model, labelled.sample.id, "ann", "t", 1)
    await queue.skip(model, skipped.sample.id, "ann", "t")
    assert await memory.holdings() == 1
    assert await memory.ends_in_s() > LONG_S - MEMORY_S
    await queue.reject(model, rejected.sample.id, "ann", "t", "dark")
    assert await memory.holdings() == 0
    assert await memory.ends_in_s() <= MEMORY_S
    assert await queue.lease(model, 3, "ann", "t", LONG_S) == []
    await memory.age(MEMORY_S)
    assert len(await queue.lease(model, 3, "ann", "t", LONG_S)) == 1


async def test_a_lease_that_would_end_sooner_is_not_remembered_for_longer(
    queue: RedisQueue, memory: Memory, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample("a")])
    (leased,) = await queue.lease(model, 1, "ann", "t", 60)
    await queue.label(model, leased.sample.id, "ann", "t", 1)
    assert await memory.ends_in_s() <= 60


async def test_the_samples_of_a_token_are_forgotten_when_its_lease_runs_out(
    queue: RedisQueue, memory: Memory, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample(f"{i}") for i in range(3)])
    assert len(await queue.lease(model, 3, "ann", "t", 0.000001)) == 3
    assert await memory.holdings() == 3
    await queue.sweep(model)
    assert await memory.holdings() == 0
    assert len(await queue.lease(model, 3, "ann", "t", LONG_S)) == 3


async def test_a_large_lease_keeps_its_order_while_it_shrinks(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample(f"{i}", float(i)) for i in range(1000)])
    leased = await queue.lease(model, 1000, "ann", "t", LONG_S)
    for one in leased[::2]:
        await queue.label(model, one.sample.id, "ann", "t", 1)
    assert await queue.lease(model, 1000, "ann", "t", LONG_S) == leased[1::2]
