"""The queue when there is too much: bounds, eviction, dead letters, and the end of a sample's life."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from service.errors import Conflict, Erased, NotFound
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample

pytestmark = pytest.mark.usefixtures("no_grace")

MakeSample = Callable[..., Sample]
Open = Callable[..., RedisQueue]
LONG, SHORT = 3600.0, 0.000001


async def pending_values(queue: RedisQueue, model: str) -> list[float]:
    return sorted(one.sample.value for one in await queue.lease(model, 100, "ann", "all", LONG))


async def test_over_the_maximum_the_least_valuable_goes_even_when_it_is_the_new_one(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending=3)
    await queue.put([make_sample(f"{value}", value) for value in (5.0, 1.0, 3.0, 4.0, 2.0)])
    found = await queue.stats(model)
    assert (found["accepted"], found["evicted"], found["pending"]) == (5, 2, 3)
    assert await pending_values(queue, model) == [3.0, 4.0, 5.0]


async def test_the_lane_that_is_fuller_for_its_share_loses_samples(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending=10, audit_share=0.0, ood_share=0.2)
    await queue.put([make_sample(f"odd {i}", 100.0 + i, lane="ood_score") for i in range(10)])
    await queue.put([make_sample(f"{i}", float(i)) for i in range(10)])
    found = await queue.stats(model)
    assert (found["pending"], found["pending_ood"]) == (10, 2)


async def test_too_many_bytes_evict_and_the_audit_lane_stays(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_bytes=1000, max_pending=2, max_pending_per_source=1)
    await queue.put([make_sample(f"drawn {i}", lane="audit", bytes=300, source="cam") for i in range(3)])
    await queue.put([make_sample(f"{i}", float(i), bytes=60) for i in range(2)])
    found = await queue.stats(model)
    assert (found["pending_audit"], found["pending"], found["bytes"], found["evicted"]) == (3, 4, 960, 1)


async def test_bytes_of_leased_images_count_and_those_of_finished_ones_do_not(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue()
    sample = make_sample("a", bytes=70)
    await queue.put([sample])
    await queue.lease(model, 1, "ann", "token", LONG)
    assert (await queue.stats(model))["bytes"] == 70
    await queue.label(model, sample.id, "ann", "token", 1)
    assert (await queue.stats(model))["bytes"] == 0


@pytest.mark.parametrize("size", [0, 1, 2**53])
async def test_an_image_of_any_size_is_counted_in_full_and_taken_off_again(
    open_queue: Open, model: str, make_sample: MakeSample, size: int
) -> None:
    queue = open_queue(max_bytes=2**53)
    first, second = make_sample("a", 1.0, bytes=size), make_sample("b", 2.0, bytes=0)
    await queue.put([first, second])
    assert (await queue.stats(model))["bytes"] == size
    await queue.label(model, second.id, "ann", "token", 1)
    assert (await queue.stats(model))["bytes"] == size
    await queue.reject(model, first.id, "ann", "token", "dark")
    assert (await queue.stats(model))["bytes"] == 0


@pytest.mark.parametrize("size", [-1, 2**53 + 1])
async def test_a_size_that_cannot_be_counted_is_refused_and_changes_nothing(
    open_queue: Open, model: str, make_sample: MakeSample, size: int
) -> None:
    queue = open_queue()
    with pytest.raises(ValueError, match="bytes"):
        await queue.put([make_sample("a", bytes=size)])
    assert set((await queue.stats(model)).values()) <= {0, -1}  # -1: no limit on labels


async def test_a_value_of_negative_zero_is_one_of_zero(open_queue: Open, model: str, make_sample: MakeSample) -> None:
    queue = open_queue(max_pending_per_source=2)
    await queue.put([make_sample(f"{value}", value, source="cam") for value in (-0.0, 0.0, 1.0, -1.0)])
    assert (await queue.stats(model))["evicted"] == 2
    assert await pending_values(queue, model) == [0.0, 1.0]
    await queue.put([make_sample(f"more {value}", value, source="cam") for value in (2.0, 3.0)])
    assert (await queue.stats(model))["evicted"] == 2


async def test_one_source_cannot_fill_the_queue_and_keeps_its_most_valuable(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending_per_source=2)
    values = (-3.5, 2.0, -1e300, 0.0, 1e-300, 3.0)
    await queue.put([make_sample(f"cam {value}", value, source="cam") for value in values])
    await queue.put([make_sample(f"cam1 {value}", value, source="cam1") for value in (7.0, 8.0)])
    await queue.put([make_sample(f"none {value}", value) for value in (10.0, 11.0, 12.0)])
    assert (await queue.stats(model))["evicted"] == 4
    assert await pending_values(queue, model) == [2.0, 3.0, 7.0, 8.0, 10.0, 11.0, 12.0]


async def test_a_sample_whose_leases_keep_running_out_is_dead_until_it_is_requeued(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_expiries=2)
    sample = make_sample("a")
    await queue.put([sample])
    for turn in range(2):
        assert len(await queue.lease(model, 1, "ann", f"{turn}", SHORT)) == 1
        assert await queue.sweep(model) == 1
    found = await queue.stats(model)
    assert (found["dead"], found["pending"], found["expired"]) == (1, 0, 2)
    assert await queue.lease(model, 1, "ann", "t", LONG) == []
    assert await queue.requeue(model, ["0" * 32]) == 0
    assert await queue.requeue(model, [sample.id, sample.id]) == 1
    assert await queue.requeue(model, None) == 0
    await queue.lease(model, 1, "ann", "u", SHORT)
    await queue.sweep(model)
    assert (await queue.stats(model))["pending"] == 1


async def test_a_sample_that_comes_back_is_as_old_as_its_wait_and_not_as_its_arrival(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    queue = open_queue(max_expiries=1)
    await queue.put([sample])
    (arrived,) = await ages(queue, model)
    await queue.lease(model, 1, "ann", "t", SHORT)
    await queue.sweep(model)
    await queue.requeue(model, None)
    (requeued,) = await ages(queue, model)
    (leased,) = await queue.lease(model, 1, "bob", "t", LONG)
    await queue.skip(model, leased.sample.id, "bob", "t")
    (skipped,) = await ages(queue, model)
    assert arrived < requeued < skipped


async def ages(queue: RedisQueue, model: str) -> list[float]:
    """The start of each pending sample's wait, in microseconds of the server's clock."""
    client = cast("Any", queue.scripts.server.client)
    found = await client.zrange(f"losscast:{{{model}}}:queue:ages", 0, -1, withscores=True)
    return [since for _, since in found]


async def test_a_requeued_sample_is_offered_to_those_who_skipped_it(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample("a")])
    for who in range(16):
        (one,) = await queue.lease(model, 1, f"{who}", "t", LONG)
        await queue.skip(model, one.sample.id, f"{who}", "t")
    assert await queue.requeue(model, None) == 1
    assert len(await queue.lease(model, 1, "0", "u", LONG)) == 1


async def test_a_lowered_bound_for_sources_is_reached(open_queue: Open, model: str, make_sample: MakeSample) -> None:
    await open_queue().put([make_sample(f"{i}", float(i), source="cam") for i in range(10)])
    queue = open_queue(max_pending_per_source=2)
    await queue.put([make_sample("new", 20.0, source="cam")])
    assert await pending_values(queue, model) == [9.0, 20.0]


async def test_a_dead_letter_takes_a_late_label(open_queue: Open, model: str, make_sample: MakeSample) -> None:
    queue = open_queue(max_expiries=1)
    sample = make_sample("a")
    await queue.put([sample])
    await queue.lease(model, 1, "ann", "t", SHORT)
    await queue.sweep(model)
    assert await queue.label(model, sample.id, "ann", "t", 1) == "accepted"
    found = await queue.stats(model)
    assert (found["dead"], found["labelled"]) == (0, 1)


async def test_a_rejected_sample_takes_no_label(queue: RedisQueue, model: str, make_sample: MakeSample) -> None:
    sample = make_sample("a")
    await queue.put([sample])
    await queue.lease(model, 1, "ann", "t", LONG)
    await queue.reject(model, sample.id, "ann", "t", "blurred")
    await queue.reject(model, sample.id, "ann", "t", "blurred")
    with pytest.raises(Conflict, match="was rejected"):
        await queue.reject(model, sample.id, "bob", "t", "blurred")
    with pytest.raises(Conflict, match="was rejected"):
        await queue.label(model, sample.id, "ann", "t", 1)
    assert (await queue.stats(model))["rejected"] == 1


async def test_a_leased_sample_is_rejected_by_its_holder_alone(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    await queue.put([sample])
    await queue.lease(model, 1, "ann", "t", LONG)
    for annotator, token in (("bob", "t"), ("ann", "u")):
        with pytest.raises(Conflict, match="only who holds it"):
            await queue.reject(model, sample.id, annotator, token, "blurred")
    assert await queue.label(model, sample.id, "ann", "t", 1) == "accepted"


async def test_an_evicted_sample_takes_no_label_and_is_not_revived_by_a_repeated_put(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending=1)
    poor = make_sample("poor", 1.0)
    await queue.put([make_sample("rich", 2.0), poor])
    with pytest.raises(Conflict, match="was evicted"):
        await queue.label(model, poor.id, "ann", "t", 1)
    with pytest.raises(NotFound):
        await queue.get(model, poor.id)
    await queue.put([poor])
    found = await queue.stats(model)
    assert (found["accepted"], found["evicted"], found["duplicates"]) == (2, 1, 0)


@pytest.mark.parametrize("order", [(1.0, 2.0), (2.0, 1.0)])
async def test_an_evicted_sample_is_not_revived_by_repetitions_of_several_replicas(
    open_queue: Open, model: str, make_sample: MakeSample, order: tuple[float, float]
) -> None:
    queue = open_queue(max_pending=1)
    replicas = [make_sample("poor", 1.0, flagged_at=flagged_at) for flagged_at in order]
    for poor in replicas:
        await queue.put([poor])
    await queue.put([make_sample("rich", 2.0)])
    before = await queue.stats(model)
    for poor in [*replicas, *replicas]:
        (announced,) = (await queue.announce([poor])).values()
        assert not announced.is_new
        await queue.put([poor])
    assert {**await queue.stats(model), "oldest_age_s": 0} == {**before, "oldest_age_s": 0}
    assert before["evicted"] == 1


async def test_an_arrival_that_revives_stays_the_latest_though_an_earlier_one_is_put_first(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending=1)
    early, late = (make_sample("poor", 1.0, flagged_at=flagged_at) for flagged_at in (1.0, 2.0))
    await queue.put([make_sample("rich", 2.0), early])
    await queue.announce([late])
    (announced,) = (await queue.announce([early])).values()
    for poor in (early, late, early, late):
        assert not await queue.put([replace(poor, blob=announced.image)])
    found = await queue.stats(model)
    assert (found["accepted"], found["evicted"], found["pending"]) == (3, 2, 1)


@pytest.mark.parametrize("lane", ["predicted_loss", "audit"])
@pytest.mark.parametrize("end", ["no room", "retention"])
async def test_an_evicted_image_that_comes_again_is_a_new_sample(
    open_queue: Open, model: str, make_sample: MakeSample, end: str, lane: str
) -> None:
    queue = open_queue(max_pending=1) if end == "no room" else open_queue(retention_s=1e-6)
    first = make_sample("a", 1.0, flagged_at=1.0, source="cam")
    await queue.put([first, *([make_sample("b", 2.0)] if end == "no room" else [])])
    await queue.scripts.run("forget", model, [1])
    before = await queue.stats(model)
    again = make_sample("a", 3.0, flagged_at=2.0, lane=lane)
    assert before["evicted"] == 1
    assert not await queue.put([again])
    assert await queue.get(model, first.id) == again
    found = await queue.stats(model)
    assert found["accepted"] == before["accepted"] + 1
    assert found["duplicates"] == 0
    places = ("pending", "leased", "labelled", "rejected", "dead", "evicted", "erased")
    assert found["accepted"] == sum(found[place] for place in places)
    assert await queue.label(model, first.id, "ann", "t", 1) == "accepted"


async def test_of_too_many_evicted_samples_the_oldest_are_forgotten_with_the_next(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending=1, max_tombstones=3)
    evicted = [make_sample(f"{i}", float(i), flagged_at=1.0) for i in range(9)]
    for sample in [make_sample("rich", 10.0), *evicted]:
        await queue.put([sample])
    assert (await tombstones(queue, model), await items(queue, model)) == (3, 4)
    for sample in evicted[-3:]:  # known still, so nothing new
        await queue.put([sample])
    assert (await queue.stats(model))["accepted"] == 10
    assert await queue.erase(model, evicted[-1].id)
    assert (await tombstones(queue, model), await items(queue, model)) == (2, 4)
    await queue.put([evicted[0]])
    found = await queue.stats(model)
    assert (found["accepted"], found["evicted"], found["erased"], found["pending"]) == (11, 9, 1, 1)


async def test_a_lowered_bound_for_evicted_samples_is_reached(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    await open_queue(max_pending=0).put([make_sample(f"{i}") for i in range(8)])
    queue = open_queue(max_pending=0, max_tombstones=2)
    for turn in range(8):
        await queue.put([make_sample(f"new {turn}")])
    assert (await tombstones(queue, model), await items(queue, model)) == (2, 2)


async def test_evicted_samples_are_forgotten_after_retention(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending=0, retention_s=1e-6)
    await queue.put([make_sample(f"{i}") for i in range(5)])
    assert await queue.scripts.run("forget", model, [100]) == 5
    assert (await tombstones(queue, model), await items(queue, model)) == (0, 0)


async def tombstones(queue: RedisQueue, model: str) -> int:
    return int(await cast("Any", queue.scripts.server.client).zcard(f"losscast:{{{model}}}:queue:tombstones"))


async def items(queue: RedisQueue, model: str) -> int:
    return int(await cast("Any", queue.scripts.server.client).hlen(f"losscast:{{{model}}}:queue:items"))


async def test_an_image_that_keeps_coming_to_a_full_queue_below_its_bound_is_evicted_each_time(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(max_pending=1)
    rich = make_sample("rich", 2.0)
    await queue.put([rich])
    for turn in range(3):
        await queue.put([make_sample("poor", 1.0, flagged_at=float(turn))])
    found = await queue.stats(model)
    assert (found["accepted"], found["evicted"], found["pending"]) == (4, 3, 1)
    assert await pending_values(queue, model) == [2.0]


@pytest.mark.parametrize("state", ["pending", "leased", "labelled", "rejected", "dead", "evicted"])
async def test_an_erased_sample_is_nowhere_any_more(
    open_queue: Open, model: str, make_sample: MakeSample, state: str
) -> None:
    queue = open_queue(max_expiries=1, max_pending=1)
    sample = make_sample("a", 1.0)
    await queue.put([sample])
    if state == "evicted":
        await queue.put([make_sample("b", 2.0)])
    elif state != "pending":
        await queue.lease(model, 1, "ann", "t", SHORT if state == "dead" else LONG)
    if state == "labelled":
        await queue.label(model, sample.id, "ann", "t", 1)
    elif state == "rejected":
        await queue.reject(model, sample.id, "ann", "t", "blurred")
    elif state == "dead":
        await queue.sweep(model)
    assert (await queue.stats(model))[state] == 1
    assert await queue.erase(model, sample.id)
    assert await queue.erase(model, sample.id)
    found = await queue.stats(model)
    assert (found[state], found["erased"]) == (0, 1)
    assert (await queue.labels(model, "", 10)).labels == []
    for refused in (
        queue.label(model, sample.id, "ann", "t", 1),
        queue.reject(model, sample.id, "ann", "t", "blurred"),
        queue.skip(model, sample.id, "ann", "t"),
    ):
        with pytest.raises(Erased, match="was erased") as caught:
            await refused
        assert (caught.value.status, caught.value.code) == (404, "not_found")
    await queue.put([sample])
    assert (await queue.stats(model))["erased"] == 1


async def test_an_unknown_sample_cannot_be_erased(queue: RedisQueue, model: str) -> None:
    assert not await queue.erase(model, "0" * 32)
