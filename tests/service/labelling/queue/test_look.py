"""The view of one sample: its fields and its state."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from service.errors import NotFound
from service.labelling.queue.label_queue import Looked
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample

MakeSample = Callable[..., Sample]


async def test_a_sample_can_be_looked_at_in_every_state(queue: RedisQueue, model: str, make_sample: MakeSample) -> None:
    sample = make_sample("a")
    await queue.put([sample])
    assert await queue.get(model, sample.id) == sample
    assert await queue.look(model, sample.id) == Looked(sample, "pending", None)
    await queue.lease(model, 1, "ann", "token", 60)
    assert await queue.look(model, sample.id) == Looked(sample, "leased", None)
    await queue.label(model, sample.id, "ann", "token", 1)
    assert await queue.get(model, sample.id) == sample
    assert await queue.look(model, sample.id) == Looked(sample, "labelled", None)


async def test_a_rejected_or_dead_sample_says_so(queue: RedisQueue, model: str, make_sample: MakeSample) -> None:
    rejected, dead = make_sample("a"), make_sample("b")
    await queue.put([rejected, dead])
    await queue.reject(model, rejected.id, "ann", "t", "too dark")
    for turn in range(queue.scripts.policy.max_expiries):
        await queue.lease(model, 1, "ann", f"{turn}", 0.000001)
        await queue.sweep(model)
    assert await queue.look(model, rejected.id) == Looked(rejected, "rejected", "too dark")
    assert await queue.look(model, dead.id) == Looked(dead, "dead", None)


async def test_an_image_has_no_name_while_it_arrives_or_once_it_is_gone(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    (announced,) = (await queue.announce([sample])).values()
    with pytest.raises(NotFound):
        await queue.image(model, sample.id)
    await queue.put([replace(sample, blob=announced.image)])
    assert await queue.image(model, sample.id) == announced.image
    await queue.erase(model, sample.id)
    with pytest.raises(NotFound):
        await queue.image(model, sample.id)
