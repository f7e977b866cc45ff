"""Eviction, erasure, deletion and a second arrival of the same image, each interrupted by another at every step.

In each test the steps of two lives of one image are taken one by one. At the end the image is in the blob
store exactly when a sample needs it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.labelling.janitor import Janitor
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.samples.sample import Sample
from tests.service.labelling.queue.own_queue import OwnQueue

pytestmark = pytest.mark.usefixtures("no_grace")

MakeSample = Callable[..., Sample]
HOUR_S = 3600
LATER = 1e10  # a time after now
POLICY = QueuePolicy(max_pending=1, retention_s=1e-6)  # one place; what is finished may be forgotten at once


class Room:
    """The single steps of a drain, a janitor and a caller."""

    def __init__(self, folder: Path, server: Path, model: str) -> None:
        self.blobs = BlobStore.open(folder / "blobs")
        self.queue = OwnQueue.open(str(server), self.blobs, POLICY)
        self.janitor = Janitor(self.queue, self.blobs)
        self.redis = Redis(unix_socket_path=str(server))
        self.model = model

    async def announce(self, sample: Sample) -> Sample:
        (announced,) = (await self.queue.announce([sample])).values()
        return replace(sample, blob=announced.image)

    async def write(self, sample: Sample) -> None:
        await self.blobs.put(sample.image, b"image", "image/png")

    async def arrive(self, sample: Sample) -> Sample:
        named = await self.announce(sample)
        await self.write(named)
        assert not await self.queue.put([named])
        return named

    async def garbage(self) -> list[bytes]:
        return cast("list[bytes]", await self.queue.scripts.run("garbage", self.model, [100]))

    async def delete(self, garbage: list[bytes]) -> None:
        assert not any(await self.blobs.delete_all([name.decode() for name in garbage[::2]]))

    async def confirm(self, garbage: list[bytes]) -> None:
        if garbage:
            await self.queue.scripts.run("deleted", self.model, garbage)

    async def forget(self) -> int:
        return int(await self.queue.scripts.run("forget", self.model, [100]))

    async def age(self, key: str, by_s: float) -> None:
        """Moves everything in a sorted set of times into the past."""
        redis = cast("Any", self.redis)
        name = f"losscast:{{{self.model}}}:queue:{key}"
        for member in await redis.zrange(name, 0, -1):
            await redis.zincrby(name, -by_s * 1e6, member)

    async def images(self) -> set[str]:
        return {name async for chunk in self.blobs.names("images/") for name in chunk}

    async def settle(self) -> set[str]:
        """The images that are left after all garbage is deleted."""
        await self.janitor._delete_garbage(self.model)
        return await self.images()


@pytest_asyncio.fixture
async def room(tmp_path: Path, server: Path, model: str) -> AsyncIterator[Room]:
    made = Room(tmp_path, server, model)
    yield made
    await made.queue.close()
    await made.redis.aclose()


async def test_an_evicted_image_is_deleted_and_the_sample_that_stays_keeps_its_own(
    room: Room, make_sample: MakeSample
) -> None:
    await room.arrive(make_sample("poor", 1.0))
    rich = await room.arrive(make_sample("rich", 2.0))
    assert await room.settle() == {rich.image}


async def test_the_image_of_a_label_is_kept_past_retention_until_it_is_erased(
    room: Room, make_sample: MakeSample
) -> None:
    sample = await room.arrive(make_sample("a"))
    await room.queue.label(room.model, sample.id, "ann", "token", 1)
    assert await room.queue.archive.fill(room.model)
    assert await room.forget() == 1
    assert await room.settle() == {sample.image}
    assert await room.queue.erase(room.model, sample.id)
    assert await room.settle() == set()


@pytest.mark.parametrize("step", ["before it looks", "before it deletes", "before it confirms", "after"])
async def test_an_image_that_arrives_again_while_a_janitor_deletes_it_is_kept(
    room: Room, make_sample: MakeSample, step: str
) -> None:
    """The first arrival is labelled and forgotten; the second comes in at `step` of the janitor's work."""
    sample = make_sample("a")
    await room.arrive(sample)
    await room.queue.reject(room.model, sample.id, "ann", "token", "dark")
    assert await room.forget() == 1
    second: Sample | None = None
    garbage: list[bytes] = []
    for now in ("before it looks", "before it deletes", "before it confirms", "after"):
        if now == step:
            second = await room.arrive(replace(sample, flagged_at=sample.flagged_at + 1))
        if now == "before it looks":
            garbage = await room.garbage()
        elif now == "before it deletes":
            await room.delete(garbage)
        elif now == "before it confirms":
            await room.confirm(garbage)
    assert second is not None
    assert await room.settle() == {second.image}
    assert (await room.queue.stats(room.model))["pending"] == 1


@pytest.mark.parametrize("step", ["before it looks", "before it deletes", "before it confirms", "after"])
async def test_an_evicted_image_that_arrives_again_while_a_janitor_deletes_it_is_kept(
    room: Room, make_sample: MakeSample, step: str
) -> None:
    rich = await room.arrive(make_sample("rich", 2.0))
    poor = await room.arrive(make_sample("poor", 1.0))
    second: Sample | None = None
    garbage: list[bytes] = []
    for now in ("before it looks", "before it deletes", "before it confirms", "after"):
        if now == step:
            second = await room.arrive(make_sample("poor", 3.0, flagged_at=LATER))
        if now == "before it looks":
            garbage = await room.garbage()
        elif now == "before it deletes":
            await room.delete(garbage)
        elif now == "before it confirms":
            await room.confirm(garbage)
    assert second is not None
    assert second.image not in {poor.image, rich.image}
    assert await room.settle() == {second.image}


async def test_an_image_announced_while_its_sample_waited_is_announced_again_when_it_was_evicted_since(
    room: Room, make_sample: MakeSample
) -> None:
    await room.arrive(make_sample("a", 1.0))
    again = await room.announce(make_sample("a", 3.0, flagged_at=LATER))
    await room.arrive(make_sample("b", 2.0))
    assert await room.queue.put([again]) == {again.id}
    await room.settle()
    second = await room.arrive(make_sample("a", 3.0, flagged_at=LATER))
    assert await room.settle() == {second.image}


async def test_a_drain_that_starts_again_does_not_revive_evicted_samples(room: Room, make_sample: MakeSample) -> None:
    poor = await room.arrive(make_sample("poor", 1.0))
    rich = await room.arrive(make_sample("rich", 2.0))
    repeated = replace(poor, blob="")
    assert not (await room.queue.announce([repeated]))[poor.id].is_new
    assert not await room.queue.put([poor])
    assert await room.settle() == {rich.image}
    found = await room.queue.stats(room.model)
    assert (found["accepted"], found["evicted"]) == (2, 1)


async def test_a_janitor_that_was_stopped_for_long_deletes_nothing_that_came_later(
    room: Room, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    await room.arrive(sample)
    await room.queue.reject(room.model, sample.id, "ann", "token", "dark")
    await room.forget()
    stale = await room.garbage()
    await room.janitor._delete_garbage(room.model)  # another replica's
    second = await room.arrive(sample)
    await room.delete(stale)
    await room.confirm(stale)
    assert await room.settle() == {second.image}


@pytest.mark.parametrize("step", ["announced", "written", "put"])
async def test_an_erased_image_is_gone_wherever_its_arrival_was(room: Room, make_sample: MakeSample, step: str) -> None:
    sample = make_sample("a")
    named = await room.announce(sample)
    for now in ("announced", "written", "put"):
        if now == "written":
            await room.write(named)
        elif now == "put":
            assert not await room.queue.put([named])
        if now == step:
            assert await room.queue.erase(room.model, sample.id)
            await room.settle()
    assert await room.settle() == set()
    found = await room.queue.stats(room.model)
    assert (found["accepted"], found["erased"], found["pending"]) == (1, 1, 0)
    assert await room.queue.erase(room.model, sample.id)


async def test_an_erased_image_is_gone_when_its_drain_died_after_writing_it(
    room: Room, make_sample: MakeSample
) -> None:
    named = await room.announce(make_sample("a"))
    await room.queue.erase(room.model, named.id)
    await room.settle()
    await room.write(named)  # and no put follows
    assert await room.settle() == {named.image}
    await room.age("garbage", HOUR_S)
    assert await room.settle() == set()


async def test_a_drain_that_starts_again_after_an_erasure_has_the_image_deleted_at_once(
    room: Room, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    named = await room.announce(sample)
    await room.queue.erase(room.model, named.id)
    await room.settle()
    await room.write(named)
    assert not (await room.queue.announce([sample]))[sample.id].is_new
    assert await room.settle() == set()


async def test_an_arrival_that_was_given_up_is_told_to_announce_again_and_leaves_no_image(
    room: Room, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    late = await room.announce(sample)
    await room.age("arriving", HOUR_S)
    assert await room.forget() == 1
    await room.settle()
    await room.write(late)
    assert await room.queue.put([late]) == {sample.id}
    assert (await room.queue.stats(room.model))["accepted"] == 0
    second = await room.arrive(sample)
    assert await room.settle() == {second.image}


async def test_an_arrival_that_was_overtaken_by_another_replica_leaves_no_image(
    room: Room, make_sample: MakeSample
) -> None:
    sample = make_sample("a")
    late = await room.announce(sample)
    await room.write(late)
    await room.age("arriving", HOUR_S)
    await room.forget()
    second = await room.arrive(sample)
    assert await room.queue.put([late]) == {sample.id}
    assert await room.settle() == {second.image}


async def test_two_replicas_that_announce_one_image_write_one_blob(room: Room, make_sample: MakeSample) -> None:
    sample = make_sample("a")
    first, second = await asyncio.gather(room.arrive(sample), room.arrive(sample))
    assert first.image == second.image
    assert await room.settle() == {first.image}
    assert (await room.queue.stats(room.model))["duplicates"] == 0


@pytest.mark.parametrize("state", ["arriving", "pending", "labelled"])
async def test_the_orphan_sweep_leaves_the_images_of_samples(room: Room, make_sample: MakeSample, state: str) -> None:
    named = await room.announce(make_sample("a"))
    await room.write(named)
    if state != "arriving":
        await room.queue.put([named])
    if state == "labelled":
        await room.queue.label(room.model, named.id, "ann", "token", 1)
    assert await room.janitor.discard_orphans(room.model) == 0
    assert await room.settle() == {named.image}


async def test_the_orphan_sweep_takes_an_old_image_that_no_sample_has_and_no_young_one(
    room: Room, make_sample: MakeSample
) -> None:
    young = await room.announce(make_sample("a"))
    folder = young.image.split("/")[2]
    old = f"images/{room.model}/{folder}/ab/{'ab' * 16}-1"
    unknown = young.image.replace(young.id, "ab" * 16)
    elsewhere = old.replace(folder, "1"), f"images/other-model/{folder}/ab/{'ab' * 16}-1"
    for name in (old, young.image, unknown, *elsewhere):
        await room.blobs.put(name, b"image", "image/png")
    assert await room.janitor.discard_orphans(room.model) == 1
    assert await room.settle() == {young.image, unknown, *elsewhere}


async def test_a_server_that_lost_everything_leaves_the_old_images_alone(
    room: Room, make_sample: MakeSample, model: str
) -> None:
    before = await room.arrive(make_sample("a"))
    redis = cast("Any", room.redis)
    await redis.delete(*await redis.keys(f"losscast:{{{model}}}:*"))
    again = await room.arrive(make_sample("a"))
    assert await room.janitor.discard_orphans(model) == 0
    assert await room.settle() == {before.image, again.image}
