import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.errors import BadRequest, NotFound, Unavailable
from service.labelling.janitor import Janitor
from service.labelling.queue import archive
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample
from tests.service.labelling.queue.own_queue import OwnQueue

pytestmark = pytest.mark.usefixtures("no_grace")

MakeSample = Callable[..., Sample]


@pytest_asyncio.fixture
async def queue(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisQueue]:
    monkeypatch.setattr(archive, "ARCHIVE_LABELS", 3)
    made = OwnQueue.open(str(server), BlobStore.open(tmp_path))
    yield made
    await made.close()


@pytest_asyncio.fixture
async def admin(server: Path) -> AsyncIterator[Any]:
    async with Redis(unix_socket_path=str(server)) as client:
        yield client


async def labelled(queue: RedisQueue, samples: list[Sample]) -> list[Sample]:
    await queue.put(samples)
    for n, sample in enumerate(samples):
        await queue.label(sample.model, sample.id, "ann", "token", {"values": [n]})
    return samples


async def archived_files(queue: RedisQueue, model: str) -> list[str]:
    return sorted([name async for chunk in queue.blobs.names(f"labels/{model}/") for name in chunk])


async def pages(queue: RedisQueue, model: str, n: int) -> list[list[str]]:
    found, cursor = [], ""
    while (page := await queue.labels(model, cursor, n)).labels:
        found.append([record.sample.id for record in page.labels])
        cursor = page.cursor
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 4, 100])
async def test_pages_are_the_same_whether_labels_are_archived_or_not(
    queue: RedisQueue, model: str, make_sample: MakeSample, n: int
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}", audit_probability=0.1, lane="audit") for i in range(8)])
    before = await pages(queue, model, n)
    first = await queue.labels(model, "", 100)
    assert await queue.archive.fill(model)
    between = await pages(queue, model, n)
    assert await queue.archive.fill(model)
    assert not await queue.archive.fill(model)
    assert len(await archived_files(queue, model)) == 2
    assert before == between == await pages(queue, model, n)
    assert [sample_id for page in before for sample_id in page] == [sample.id for sample in samples]
    assert await queue.labels(model, "", 100) == first
    assert first.labels[2].label == {"values": [2]}


async def test_the_stream_keeps_only_labels_that_no_archive_has(
    queue: RedisQueue, admin: Any, model: str, make_sample: MakeSample
) -> None:
    await labelled(queue, [make_sample(f"{i}") for i in range(7)])
    while await queue.archive.fill(model):
        pass
    assert await admin.xlen(f"losscast:{{{model}}}:queue:labels") == 1


@pytest.mark.parametrize("which", [0, 2, 3, 6])
async def test_an_erased_label_leaves_its_archive_or_the_stream(
    queue: RedisQueue, model: str, make_sample: MakeSample, which: int
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(7)])
    while await queue.archive.fill(model):
        pass
    assert await queue.erase(model, samples[which].id)
    kept = [sample.id for sample in samples if sample is not samples[which]]
    assert [one for page in await pages(queue, model, 2) for one in page] == kept
    await Janitor(queue, queue.blobs).tidy(model)
    for name in await archived_files(queue, model):
        assert samples[which].id.encode() not in await queue.blobs.get(name)
    assert len(await archived_files(queue, model)) == 2


async def test_an_archive_whose_labels_are_all_erased_is_gone(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(3)])
    await queue.archive.fill(model)
    for sample in samples:
        await queue.erase(model, sample.id)
    await Janitor(queue, queue.blobs).tidy(model)
    assert await archived_files(queue, model) == []
    assert (await queue.labels(model, "", 10)).labels == []


async def test_a_label_that_is_erased_while_it_is_being_archived_is_in_no_valid_archive(
    queue: RedisQueue, model: str, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(3)])
    put = queue.blobs.put

    async def erased_meanwhile(name: str, data: bytes, content_type: str) -> None:
        await put(name, data, content_type)
        await queue.erase(model, samples[1].id)

    monkeypatch.setattr(queue.blobs, "put", erased_meanwhile)
    assert not await queue.archive.fill(model)
    assert await pages(queue, model, 10) == [[samples[0].id, samples[2].id]]


async def test_two_replicas_that_archive_the_same_labels_keep_one_archive(
    queue: RedisQueue, model: str, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(3)])
    put = queue.blobs.put

    async def overtaken(name: str, data: bytes, content_type: str) -> None:
        monkeypatch.setattr(queue.blobs, "put", put)
        await put(name, data, content_type)
        assert await queue.archive.fill(model)

    monkeypatch.setattr(queue.blobs, "put", overtaken)
    assert not await queue.archive.fill(model)
    assert await pages(queue, model, 10) == [[sample.id for sample in samples]]


async def test_an_erasure_that_was_cut_off_is_finished_by_the_janitor(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(3)])
    await queue.archive.fill(model)
    await queue.scripts.run("erase", model, [samples[0].id])  # and the process dies
    await Janitor(queue, queue.blobs).tidy(model)
    assert await pages(queue, model, 10) == [[samples[1].id, samples[2].id]]


async def test_a_page_is_read_again_when_its_archive_is_replaced_meanwhile(
    queue: RedisQueue, model: str, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(3)])
    await queue.archive.fill(model)
    get = queue.blobs.get

    async def replaced_first(name: str) -> bytes:
        monkeypatch.setattr(queue.blobs, "get", get)
        await queue.erase(model, samples[0].id)
        await Janitor(queue, queue.blobs).tidy(model)
        return await get(name)

    monkeypatch.setattr(queue.blobs, "get", replaced_first)
    assert await pages(queue, model, 10) == [[samples[1].id, samples[2].id]]


async def test_erasures_at_the_same_time_all_take_their_labels_out(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(9)])
    while await queue.archive.fill(model):
        pass
    assert all(await asyncio.gather(*(queue.erase(model, sample.id) for sample in samples[:8])))
    assert await pages(queue, model, 10) == [[samples[8].id]]


async def test_a_label_of_an_earlier_life_is_erased_with_the_later_one(
    server: Path, tmp_path: Path, model: str, make_sample: MakeSample
) -> None:
    queue = OwnQueue.open(str(server), BlobStore.open(tmp_path), QueuePolicy(retention_s=1e-6))
    (sample,) = await labelled(queue, [make_sample("a")])
    assert await queue.archive.fill(model)
    await queue.scripts.run("forget", model, [10])
    await queue.put([sample])
    assert await queue.erase(model, sample.id)
    assert (await queue.labels(model, "", 10)).labels == []
    await queue.close()


async def test_the_erasure_of_a_forgotten_sample_that_was_cut_off_is_finished_by_the_janitor(
    server: Path, tmp_path: Path, model: str, make_sample: MakeSample
) -> None:
    queue = OwnQueue.open(str(server), BlobStore.open(tmp_path), QueuePolicy(retention_s=1e-6))
    (sample,) = await labelled(queue, [make_sample("a")])
    assert await queue.archive.fill(model)
    await queue.scripts.run("forget", model, [10])
    await queue.scripts.run("erase", model, [sample.id])  # and the process dies
    await Janitor(queue, queue.blobs).tidy(model)
    assert (await queue.labels(model, "", 10)).labels == []
    await queue.close()


async def test_an_archive_that_is_lost_is_named_and_not_waited_for(
    queue: RedisQueue, model: str, make_sample: MakeSample
) -> None:
    samples = await labelled(queue, [make_sample(f"{i}") for i in range(6)])
    while await queue.archive.fill(model):
        pass
    lost, _ = await archived_files(queue, model)
    assert await queue.blobs.delete_all([lost]) == [None]
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match=f"archive {lost} is missing"):
            await queue.labels(model, "", 10)
        with pytest.raises(Unavailable, match=f"archive {lost} is missing"):
            await queue.erase(model, samples[4].id)
    await Janitor(queue, queue.blobs).tidy(model)
    assert samples[4].id.encode() not in await queue.blobs.get((await archived_files(queue, model))[0])


async def test_an_invalid_id_is_not_searched_for(queue: RedisQueue, model: str, make_sample: MakeSample) -> None:
    (sample, *_) = await labelled(queue, [make_sample(f"{i}") for i in range(3)])
    assert await queue.archive.fill(model)
    for name in await archived_files(queue, model):
        assert await queue.blobs.delete_all([name]) == [None]
    assert not await queue.erase(model, sample.id[:31])


async def test_finished_samples_are_forgotten_after_retention_and_their_labels_stay(
    server: Path, tmp_path: Path, model: str, make_sample: MakeSample
) -> None:
    queue = OwnQueue.open(str(server), BlobStore.open(tmp_path), QueuePolicy(retention_s=1e-6))
    (sample,) = await labelled(queue, [make_sample("a")])
    janitor = Janitor(queue, queue.blobs)
    await queue.scripts.run("forget", model, [10])
    assert await queue.get(model, sample.id) == sample  # its label is not archived yet
    await janitor.tidy(model)  # archives the label
    await janitor.tidy(model)
    with pytest.raises(NotFound):
        await queue.get(model, sample.id)
    (record,) = (await queue.labels(model, "", 10)).labels
    assert record.sample == sample
    assert (await queue.stats(model))["labelled"] == 1
    assert await queue.erase(model, sample.id)
    assert (await queue.labels(model, "", 10)).labels == []
    await queue.scripts.run("forget", model, [10])
    assert not await queue.erase(model, sample.id)
    await queue.close()


async def test_pending_samples_and_dead_letters_past_retention_are_evicted(
    server: Path, tmp_path: Path, model: str, make_sample: MakeSample
) -> None:
    queue = OwnQueue.open(str(server), BlobStore.open(tmp_path), QueuePolicy(retention_s=1e-6, max_expiries=1))
    await queue.put([make_sample("dead"), make_sample("drawn", lane="audit")])
    await queue.lease(model, 1, "ann", "t", 1e-6)
    await Janitor(queue, queue.blobs).tidy(model)
    found = await queue.stats(model)
    assert (found["accepted"], found["evicted"], found["pending"], found["dead"]) == (2, 2, 0, 0)
    await queue.close()


@pytest.mark.parametrize(("cursor", "n"), [("x", 1), ("1-1-1", 1), ("-", 1), ("", 0), ("", 10_001)])
async def test_a_page_out_of_bounds_is_refused(queue: RedisQueue, model: str, cursor: str, n: int) -> None:
    with pytest.raises(BadRequest):
        await queue.labels(model, cursor, n)


async def test_a_janitor_that_fails_counts_it_and_goes_on(tmp_path: Path, model: str) -> None:
    queue = OwnQueue.open(str(tmp_path / "no.sock"), BlobStore.open(tmp_path))
    janitor = Janitor(queue, queue.blobs)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await janitor.run(lambda: [model, "other"])
    assert janitor.failures.errors == 12  # each step, for each model
    assert "does not answer" in (janitor.failures.last_error or "")
    await queue.close()
