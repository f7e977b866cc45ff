import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from service.errors import Conflict, NotFound, Unavailable
from service.labelling.endings import Ending, Endings, Unsettled
from service.labelling.journal.journal import Journal
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample
from tests.service.labelling.queue.forgetful import ForgetfulServer
from tests.service.labelling.queue.own_queue import OwnQueue

MakeSample = Callable[..., Sample]
LABEL = {"values": [1.0]}


class Room:
    """A queue on a forgetful server, a journal, and the endings between them."""

    def __init__(self, server: ForgetfulServer, journal: Journal, queue: RedisQueue) -> None:
        self.server, self.journal, self.queue = server, journal, queue
        self.endings = Endings(journal, queue)

    async def labels(self, model: str) -> list[tuple[str, str]]:
        page = await self.queue.labels(model, "", 100)
        return [(record.sample.id, record.annotator) for record in page.labels]

    async def settle_until_done(self) -> None:
        while self.journal.endings:
            with suppress(Unsettled):
                await self.endings.settle()


@asynccontextmanager
async def opened(folder: Path, server: ForgetfulServer) -> AsyncIterator[Room]:
    journal = Journal.open(folder / "journal", max_bytes=2**20, max_rows=1000)
    queue = OwnQueue.open(str(server.socket), BlobStore.open("memory:///"))
    yield Room(server, journal, queue)
    await queue.close()
    await journal.close()


@pytest.fixture
async def room(tmp_path: Path, forgetful_server: ForgetfulServer) -> AsyncIterator[Room]:
    async with opened(tmp_path, forgetful_server) as made:
        yield made


def label_of(sample: Sample, annotator: str = "ann") -> Ending:
    return Ending("label", sample.model, sample.id, annotator, "token", LABEL)


async def state_of(room: Room, sample: Sample) -> dict[str, int]:
    stats = await room.queue.stats(sample.model)
    return {name: stats[name] for name in ("pending", "labelled", "rejected", "erased") if stats[name]}


ENDINGS: dict[str, Callable[[Sample], Ending]] = {
    "labelled": label_of,
    "rejected": lambda sample: Ending("rejection", sample.model, sample.id, "ann", "token", "blurred"),
    "erased": lambda sample: Ending("erasure", sample.model, sample.id),
}


@pytest.mark.parametrize("state", ENDINGS)
async def test_a_confirmed_ending_that_the_server_lost_is_sent_to_it_again(
    room: Room, make_sample: MakeSample, state: str
) -> None:
    sample = make_sample("image")
    await room.queue.put([sample])
    await room.server.snapshot()
    assert await room.endings.end(ENDINGS[state](sample)) == "accepted"
    await room.server.crash()
    assert await state_of(room, sample) == {"pending": 1}
    await room.settle_until_done()
    assert (room.journal.endings, room.endings.restored) == (0, 1)
    assert await state_of(room, sample) == {state: 1}


async def test_a_restored_ending_stays_in_the_journal_until_the_server_is_seen_to_keep_it(
    room: Room, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make_sample("image")
    await room.queue.put([sample])
    await room.endings.settle()
    await room.server.snapshot()
    await room.endings.end(label_of(sample))
    until_durable = RedisQueue.until_durable
    crashes = 0

    async def crash_while_settling(queue: RedisQueue, models: set[str]) -> None:
        nonlocal crashes
        if crashes < 3:
            crashes += 1
            await room.server.crash()
        await until_durable(queue, models)

    monkeypatch.setattr(RedisQueue, "until_durable", crash_while_settling)
    for _ in range(3):
        with pytest.raises(Unsettled):
            await room.endings.settle()
        assert room.journal.endings == 1
    await room.endings.settle()
    assert (room.journal.endings, room.endings.restored) == (0, 3)
    assert await state_of(room, sample) == {"labelled": 1}


async def test_a_label_that_the_server_keeps_leaves_the_journal_and_is_in_the_stream_once(
    room: Room, make_sample: MakeSample
) -> None:
    samples = [make_sample(f"{n}") for n in range(40)]
    await room.queue.put(samples)
    await asyncio.gather(*(room.endings.end(label_of(sample)) for sample in samples))
    assert await room.endings.end(label_of(samples[0])) == "repeated"
    assert room.journal.endings == 40
    await room.endings.settle()
    assert (room.journal.endings, room.endings.restored) == (0, 0)
    assert sorted(await room.labels(samples[0].model)) == sorted((sample.id, "ann") for sample in samples)


async def test_a_label_waits_for_its_sample_when_the_server_lost_both(room: Room, make_sample: MakeSample) -> None:
    sample = make_sample("image")
    await room.server.snapshot()
    await room.queue.put([sample])
    await room.endings.end(label_of(sample))
    await room.server.crash()
    for _ in range(2):
        with pytest.raises(Unsettled):
            await room.endings.settle()
    await room.queue.put([sample])  # as the drain does it, whose journal still has it
    await room.settle_until_done()
    assert await room.labels(sample.model) == [(sample.id, "ann")]


async def test_a_label_whose_sample_nobody_brings_back_is_given_up_and_logged_in_full(
    room: Room, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample("image")
    await room.server.snapshot()
    await room.queue.put([sample])
    await room.endings.end(label_of(sample))
    await room.server.crash()
    monkeypatch.setattr("service.labelling.endings.PATIENCE_S", 0.0)
    await room.endings.settle()
    assert room.journal.endings == 0
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert '"content":{"values":[1.0]}' in record.message
    assert sample.id in record.message


async def test_the_first_label_in_the_stream_stays_when_another_came_in_between(
    room: Room, make_sample: MakeSample, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample("image")
    await room.queue.put([sample])
    await room.server.snapshot()
    await room.endings.end(label_of(sample, "ann"))
    await room.server.crash()
    await room.endings.end(label_of(sample, "bob"))
    await room.settle_until_done()
    assert await room.labels(sample.model) == [(sample.id, "bob")]
    assert "given up" in caplog.text
    assert room.endings.given_up == 1


async def test_a_rejection_waits_while_another_holds_the_sample(room: Room, make_sample: MakeSample) -> None:
    sample = make_sample("image")
    await room.queue.put([sample])
    await room.server.snapshot()
    await room.endings.end(ENDINGS["rejected"](sample))
    await room.server.crash()
    await room.queue.lease(sample.model, 1, "bob", "t", 60)
    with pytest.raises(Unsettled):
        await room.endings.settle()
    await room.queue.skip(sample.model, sample.id, "bob", "t")
    await room.settle_until_done()
    assert await state_of(room, sample) == {"rejected": 1}


async def test_the_label_of_a_sample_that_was_erased_since_is_dropped_and_not_logged(
    room: Room, make_sample: MakeSample, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample("image")
    await room.queue.put([sample])
    await room.endings.end(label_of(sample))
    await room.endings.end(ENDINGS["erased"](sample))
    await room.settle_until_done()
    assert (await state_of(room, sample), room.endings.given_up) == ({"erased": 1}, 0)
    assert sample.id not in caplog.text


async def test_an_ending_that_cannot_be_applied_does_not_stop_others_from_being_restored(
    room: Room, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [make_sample(f"{n}") for n in range(40)]
    await room.queue.put(samples)
    await room.server.snapshot()
    await room.endings.end(ENDINGS["erased"](samples[0]))
    for sample in samples[1:]:
        await room.endings.end(label_of(sample))
    await room.server.crash()

    async def no_archives(queue: RedisQueue, model: str, sample_id: str) -> None:  # noqa: ARG001 - as the queue's own
        raise Unavailable("the blob store does not answer")

    monkeypatch.setattr(RedisQueue, "erase", no_archives)
    with pytest.raises(Unsettled):
        await room.endings.settle()
    assert room.journal.endings == 1
    assert len(await room.labels(samples[0].model)) == 39


async def test_a_repetition_is_kept_in_a_row_of_its_own_so_that_it_settles_by_itself(
    room: Room, make_sample: MakeSample
) -> None:
    sample = make_sample("image")
    await room.queue.put([sample])
    await room.endings.end(label_of(sample))
    (first,) = await room.journal.oldest_endings(10)
    assert await room.endings.end(label_of(sample)) == "repeated"
    (second,) = await room.journal.oldest_endings(10)
    assert second.row > first.row
    await room.journal.drop([first.row])  # by whoever settles the first
    assert room.journal.endings == 1


async def test_an_ending_that_the_queue_refuses_is_not_kept(room: Room, make_sample: MakeSample) -> None:
    sample = make_sample("image")
    with pytest.raises(NotFound):
        await room.endings.end(label_of(sample))
    with pytest.raises(NotFound):
        await room.endings.end(ENDINGS["erased"](sample))
    await room.queue.put([sample])
    await room.endings.end(label_of(sample, "ann"))
    with pytest.raises(Conflict):
        await room.endings.end(label_of(sample, "bob"))
    assert room.journal.endings == 1


async def test_without_a_journal_a_label_is_confirmed_once_the_server_has_it_for_good(
    room: Room, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make_sample("image")
    await room.queue.put([sample])
    await room.server.snapshot()
    await room.journal.close()
    settled = 0
    until_durable = RedisQueue.until_durable

    async def crash_once(queue: RedisQueue, models: set[str]) -> None:
        nonlocal settled
        settled += 1
        if settled == 1:
            await room.server.crash()
        await until_durable(queue, models)

    monkeypatch.setattr(RedisQueue, "until_durable", crash_once)
    assert await room.endings.end(label_of(sample)) == "accepted"
    assert settled == 2  # after the crash it was given to the server again, which took it as new
    assert await room.labels(sample.model) == [(sample.id, "ann")]


async def test_endings_that_a_killed_process_left_are_settled_by_the_next(
    room: Room, make_sample: MakeSample, tmp_path: Path
) -> None:
    samples = [make_sample(f"{n}") for n in range(3)]
    await room.queue.put(samples)
    await room.server.snapshot()
    for sample in samples:
        await room.endings.end(label_of(sample))
    await room.journal.close()
    await room.server.crash()
    async with opened(tmp_path, room.server) as following:
        running = asyncio.create_task(following.endings.run())
        async with asyncio.timeout(30):
            while following.journal.endings:  # noqa: ASYNC110 - the journal has no event for it
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        assert sorted(await following.labels(samples[0].model)) == sorted((sample.id, "ann") for sample in samples)
        assert following.endings.restored == 3
