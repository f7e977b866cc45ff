import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.errors import NotFound, Unavailable
from service.labelling import janitor as module
from service.labelling.janitor import Janitor
from service.labelling.queue.blobs import Blob, BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample
from service.redis.private_valkey import private_valkey
from tests.service.labelling.queue.forgetful import ForgetfulServer
from tests.service.labelling.queue.own_queue import OwnQueue

pytestmark = pytest.mark.usefixtures("no_grace")

MakeSample = Callable[..., Sample]
AT_ONCE = QueuePolicy(retention_s=1e-6)  # every label may be archived, every sample forgotten


@pytest_asyncio.fixture
async def queue(server: Path, tmp_path: Path) -> AsyncIterator[OwnQueue]:
    made = OwnQueue.open(str(server), BlobStore.open(tmp_path / "blobs"), AT_ONCE)
    yield made
    await made.close()


async def arrive(queue: RedisQueue, sample: Sample) -> Sample:
    (announced,) = (await queue.announce([sample])).values()
    named = replace(sample, blob=announced.image)
    await queue.blobs.put(named.image, b"image", "image/png")
    assert not await queue.put([named])
    return named


async def garbage(queue: RedisQueue, model: str) -> list[bytes]:
    return cast("list[bytes]", await queue.scripts.run("garbage", model, [100, "+inf"]))


async def test_at_its_maxmemory_the_server_is_still_relieved_of_labels_and_old_samples(
    tmp_path: Path, model: str, make_sample: MakeSample
) -> None:
    blobs = BlobStore.open(tmp_path / "blobs")
    async with (
        private_valkey(tmp_path / "valkey") as socket,
        Redis(unix_socket_path=str(socket)) as client,
    ):
        queue, admin = OwnQueue.open(str(socket), blobs, AT_ONCE), cast("Any", client)
        labelled, old = await arrive(queue, make_sample("a")), await arrive(queue, make_sample("b"))
        await queue.label(model, labelled.id, "ann", "token", 1)
        await admin.config_set("maxmemory", 1)
        janitor = Janitor(queue, queue.blobs)
        await janitor.tidy(model)
        assert janitor.failures.errors == 0
        assert await admin.xlen(f"losscast:{{{model}}}:queue:labels") == 0
        assert (await queue.stats(model))["evicted"] == 1
        with pytest.raises(NotFound):
            await blobs.get(old.image)
        await queue.close()


async def test_a_blob_store_that_takes_nothing_keeps_no_sample_from_being_forgotten_and_deleted(
    queue: RedisQueue,
    model: str,
    make_sample: MakeSample,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    labelled, old = await arrive(queue, make_sample("a")), await arrive(queue, make_sample("b"))
    await queue.label(model, labelled.id, "ann", "token", 1)

    async def refused(blobs: list[Blob]) -> list[Unavailable]:
        return [Unavailable("the disk is full") for _ in blobs]

    monkeypatch.setattr(queue.blobs, "put_all", refused)
    janitor = Janitor(queue, queue.blobs)
    with caplog.at_level(logging.WARNING):
        await janitor.tidy(model)
        await janitor.tidy(model)
    assert (janitor.failures.errors, janitor.failures.last_error) == (2, "Unavailable: the disk is full")
    logged = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert logged == [
        f"the janitor of {model} (archive labels) failed and will try again: Unavailable: the disk is full"
    ]
    assert (await queue.stats(model))["evicted"] == 1
    with pytest.raises(NotFound):
        await queue.blobs.get(old.image)


async def test_a_blob_that_cannot_be_deleted_is_put_off_and_the_others_are_deleted(
    queue: RedisQueue, model: str, make_sample: MakeSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    stuck, free = await arrive(queue, make_sample("stuck")), await arrive(queue, make_sample("free"))
    for sample in (stuck, free):
        await queue.reject(model, sample.id, "ann", "token", "dark")
    (tmp_path / "blobs" / stuck.image).unlink()
    (tmp_path / "blobs" / stuck.image / "in the way").mkdir(parents=True)
    await queue.scripts.run("forget", model, [10])
    assert len(await garbage(queue, model)) == 4
    janitor = Janitor(queue, queue.blobs)
    await janitor.tidy(model)
    await janitor.tidy(model)
    assert (janitor.deleted, janitor.failures.errors) == (1, 1)
    assert stuck.image in (janitor.failures.last_error or "")
    with pytest.raises(NotFound):
        await queue.blobs.get(free.image)
    assert await garbage(queue, model) == []


@pytest.mark.parametrize("is_forgotten", [True, False])
async def test_an_image_stays_until_the_server_would_remember_that_it_is_garbage(
    forgetful_server: ForgetfulServer,
    model: str,
    make_sample: MakeSample,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_forgotten: bool,
) -> None:
    sample = make_sample("image")
    queue = OwnQueue.open(str(forgetful_server.socket), BlobStore.open("memory:///"))
    named = await arrive(queue, sample)
    await forgetful_server.snapshot()
    await queue.erase(model, sample.id)
    until_durable = RedisQueue.until_durable

    async def crash_meanwhile(queue: RedisQueue, models: list[str]) -> None:
        if is_forgotten:
            await forgetful_server.crash()
        await until_durable(queue, models)

    monkeypatch.setattr(RedisQueue, "until_durable", crash_meanwhile)
    await Janitor(queue, queue.blobs).tidy(model)
    names = [name async for chunk in queue.blobs.names("images/") for name in chunk]
    assert names == ([named.image] if is_forgotten else [])
    assert (await queue.stats(model))["pending"] == int(is_forgotten)
    await queue.close()
