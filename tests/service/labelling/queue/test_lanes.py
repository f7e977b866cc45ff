"""Who gets which sample next: order within a lane, shares between lanes, skips and the budget."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from service.errors import BadRequest, Conflict, NotFound
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample

MakeSample = Callable[..., Sample]
Open = Callable[..., RedisQueue]
LONG, SHORT = 3600.0, 0.000001


async def lanes_of(queue: RedisQueue, model: str, n: int, times: int) -> list[str]:
    lanes: list[str] = []
    for turn in range(times):
        lanes += [one.sample.lane for one in await queue.lease(model, n, "ann", f"{n} {turn}", LONG)]
    return lanes


@pytest.mark.parametrize("n", [1, 7])
async def test_shares_hold_at_every_moment_whatever_the_size_of_a_lease(
    open_queue: Open, model: str, make_sample: MakeSample, n: int
) -> None:
    queue = open_queue(audit_share=0.1, ood_share=0.2)
    await queue.put([make_sample(f"{lane} {i}", i, lane=lane) for i in range(150) for lane in SHARES])
    lanes = await lanes_of(queue, model, n, 140 // n)
    for end in range(1, len(lanes) + 1):
        given = Counter(lanes[:end])
        assert all(abs(given[lane] - share * end) <= 1 for lane, share in SHARES.items())


SHARES = {"predicted_loss": 0.7, "ood_score": 0.2, "audit": 0.1}


async def test_leases_that_a_lane_cannot_fill_go_to_the_others_in_proportion(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(audit_share=0.1, ood_share=0.2)
    await queue.put([make_sample(f"{lane} {i}", i, lane=lane) for i in range(40) for lane in ("audit", "ood_score")])
    assert Counter(await lanes_of(queue, model, 1, 30)) == {"ood_score": 20, "audit": 10}
    await queue.put([make_sample(f"{i}", i) for i in range(70)])
    assert Counter(await lanes_of(queue, model, 10, 10)) == {"predicted_loss": 70, "ood_score": 20, "audit": 10}


async def test_a_lane_without_a_share_is_served_when_nothing_else_waits(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(audit_share=0.0, ood_share=0.0)
    await queue.put([make_sample("drawn", lane="audit"), make_sample("odd", lane="ood_score"), make_sample("a")])
    assert await lanes_of(queue, model, 1, 3) == ["predicted_loss", "audit", "ood_score"]


async def test_within_a_lane_the_order_is_by_value_and_in_the_audit_lane_by_arrival(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    values = [(i * 37) % 101 + 0.5 for i in range(100)]
    for lane in SHARES:
        await queue.put([make_sample(f"{lane} {value}", value, lane=lane) for value in values])
    leased = await queue.lease(model, 300, "ann", "token", LONG)
    for lane in ("predicted_loss", "ood_score"):
        given = [one.sample.value for one in leased if one.sample.lane == lane]
        assert all(high > low for high, low in pairwise(given))
    assert [one.sample.value for one in leased if one.sample.lane == "audit"] == values


async def test_an_audit_sample_whose_lease_ran_out_is_first_again(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample(f"{i}", lane="audit") for i in range(3)])
    (lost,) = await queue.lease(model, 1, "ann", "token", SHORT)
    assert (await queue.lease(model, 1, "bob", "token", LONG))[0].sample == lost.sample


@pytest.mark.parametrize("state", ["pending", "leased"])
async def test_a_flagged_sample_that_is_drawn_later_counts_as_drawn(
    queue: RedisQueue, model: str, make_sample: MakeSample, state: str
) -> None:
    flagged = make_sample("a", source="cam")
    await queue.put([flagged])
    if state == "leased":
        await queue.lease(model, 1, "ann", "token", LONG)
    drawn = replace(flagged, lane="audit", audit_probability=0.01, flagged_at=flagged.flagged_at + 1)
    await queue.put([drawn])
    await queue.put([replace(flagged, flagged_at=flagged.flagged_at + 2)])
    found = await queue.stats(model)
    assert (found["accepted"], found["duplicates"], found["pending_audit"]) == (1, 2, int(state == "pending"))
    await queue.label(model, flagged.id, "ann", "token", 1)
    (record,) = (await queue.labels(model, "", 10)).labels
    assert record.sample == drawn


@pytest.mark.parametrize("state", ["dead", "labelled", "rejected"])
async def test_a_draw_is_recorded_in_every_state_of_the_sample(
    open_queue: Open, model: str, make_sample: MakeSample, state: str
) -> None:
    queue = open_queue(max_expiries=1)
    flagged = make_sample("a", source="cam")
    await queue.put([flagged])
    if state == "dead":
        await queue.lease(model, 1, "ann", "t", SHORT)
        await queue.sweep(model)
    elif state == "labelled":
        await queue.label(model, flagged.id, "ann", "t", 1)
    else:
        await queue.reject(model, flagged.id, "ann", "t", "dark")
    drawn = replace(flagged, lane="audit", audit_probability=0.01, flagged_at=flagged.flagged_at + 1)
    await queue.put([drawn])
    assert await queue.get(model, flagged.id) == drawn
    found = await queue.stats(model)
    assert (found["accepted"], found["duplicates"], found[state]) == (1, 1, 1)
    assert [one.sample for one in (await queue.labels(model, "", 9)).labels] == [drawn] * (state == "labelled")
    assert await queue.requeue(model, None) == (state == "dead")
    assert (await queue.stats(model))["pending_audit"] == (state == "dead")


async def test_rejected_audits_are_counted_until_they_are_erased(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    flagged, drawn = make_sample("a"), make_sample("b", lane="audit", audit_probability=0.01)
    late = replace(flagged, lane="audit", audit_probability=0.01, flagged_at=flagged.flagged_at + 1)
    await queue.put([flagged, drawn])
    for sample in (flagged, drawn):
        await queue.reject(model, sample.id, "ann", "t", "dark")
    assert (await queue.stats(model))["rejected_audit"] == 1
    await queue.put([late])  # a rejected sample that chance draws as well
    assert (await queue.stats(model))["rejected_audit"] == 2
    await queue.erase(model, drawn.id)
    found = await queue.stats(model)
    assert (found["rejected_audit"], found["rejected"]) == (1, 1)


async def test_a_draw_of_a_label_that_is_archived_and_past_retention_leaves_nothing_behind(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(retention_s=1e-6)
    flagged = make_sample("a")
    await queue.put([flagged])
    await queue.label(model, flagged.id, "ann", "t", 1)
    assert await queue.archive.fill(model)
    assert await queue.scripts.run("forget", model, [10]) == 1
    await queue.put([replace(flagged, lane="audit", flagged_at=flagged.flagged_at + 1)])
    with pytest.raises(NotFound):
        await queue.get(model, flagged.id)


async def test_a_skipped_sample_goes_to_others_and_never_to_the_same_annotator(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample("a", 2.0), make_sample("b", 1.0)])
    (best,) = await queue.lease(model, 1, "ann", "t1", LONG)
    await queue.skip(model, best.sample.id, "ann", "t1")
    await queue.skip(model, best.sample.id, "ann", "t1")
    assert [one.sample.value for one in await queue.lease(model, 2, "ann", "t2", LONG)] == [1.0]
    assert [one.sample for one in await queue.lease(model, 2, "bob", "t1", LONG)] == [best.sample]


async def test_an_annotator_who_skipped_many_gets_what_is_behind_them(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample(f"{i}", i) for i in range(120)])
    for one in await queue.lease(model, 100, "ann", "t1", LONG):
        await queue.skip(model, one.sample.id, "ann", "t1")
    leased = await queue.lease(model, 3, "ann", "t2", LONG)
    assert [one.sample.value for one in leased] == [19.0, 18.0, 17.0]


async def test_a_sample_that_many_annotators_skipped_is_a_dead_letter(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample("a")])
    for who in range(16):
        (one,) = await queue.lease(model, 1, f"annotator {who}", "token", LONG)
        await queue.skip(model, one.sample.id, f"annotator {who}", "token")
    found = await queue.stats(model)
    assert (found["dead"], found["pending"]) == (1, 0)


async def test_a_skip_under_another_token_or_of_a_finished_sample_is_refused(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    await queue.put([sample])
    await queue.lease(model, 1, "ann", "t1", LONG)
    with pytest.raises(Conflict, match="another token"):
        await queue.skip(model, sample.id, "ann", "t2")
    await queue.label(model, sample.id, "ann", "t1", 1)
    with pytest.raises(Conflict, match="has a label"):
        await queue.skip(model, sample.id, "ann", "t1")
    with pytest.raises(NotFound):
        await queue.skip(model, "0" * 32, "ann", "t1")


async def test_the_budget_is_charged_at_lease_and_refunded_at_skip_and_expiry(
    open_queue: Open, model: str, make_sample: MakeSample
) -> None:
    queue = open_queue(labels_per_hour=3)
    await queue.put([make_sample(f"{i}", i) for i in range(9)])
    assert (await queue.stats(model))["budget_left"] == 3
    first = await queue.lease(model, 2, "ann", "t1", LONG)
    assert len(await queue.lease(model, 9, "bob", "t1", SHORT)) == 1
    assert (await queue.stats(model))["budget_left"] == 0
    assert len(await queue.lease(model, 9, "eve", "t1", LONG)) == 1  # bob's ran out
    assert await queue.lease(model, 9, "eve", "t2", LONG) == []
    await queue.skip(model, first[0].sample.id, "ann", "t1")
    assert (await queue.stats(model))["budget_left"] == 1
    await queue.label(model, first[1].sample.id, "ann", "t1", 1)
    assert (await queue.stats(model))["budget_left"] == 1


async def test_an_extended_lease_keeps_what_is_left_of_it(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    await queue.put([make_sample(f"{i}", i) for i in range(3)])
    first = await queue.lease(model, 3, "ann", "t1", LONG)
    await queue.label(model, first[0].sample.id, "ann", "t1", 1)
    extended = await queue.extend(model, "ann", "t1", 2 * LONG)
    assert [one.sample for one in extended] == [one.sample for one in first[1:]]
    assert all(one.lease_expires_at > first[0].lease_expires_at + LONG / 2 for one in extended)
    assert await queue.lease(model, 3, "ann", "t1", LONG) == extended
    assert await queue.extend(model, "ann", "t2", LONG) == []


async def test_to_extend_never_cuts_a_lease_short(queue: RedisQueue, model: str, make_sample: MakeSample) -> None:
    await queue.put([make_sample("a")])
    leased = await queue.lease(model, 1, "ann", "t", LONG)
    assert await queue.extend(model, "ann", "t", SHORT) == leased
    assert await queue.sweep(model) == 0


async def test_audits_without_a_label_are_listed_the_newest_first_and_stay(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    drawn = [make_sample(name, lane="audit", audit_probability=0.01) for name in "abcd"]
    for sample in drawn:
        await queue.put([sample])
    await queue.put([make_sample("e")])  # flagged
    await queue.label(model, drawn[3].id, "ann", "t", 1)
    assert await queue.audits(model, 0, 2) == [drawn[2], drawn[1]]
    assert await queue.audits(model, 2, 2) == [drawn[0]]
    assert await queue.audits(model, 3, 2) == []
    await queue.erase(model, drawn[2].id)
    assert await queue.audits(model, 0, 9) == [drawn[1], drawn[0]]
    assert (await queue.stats(model))["pending_audit"] == 2
    for start, n in ((-1, 1), (0, 0), (0, 1001)):
        with pytest.raises(BadRequest):
            await queue.audits(model, start, n)
