import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.background import end
from service.errors import Unavailable
from service.labelling.drain import Drain
from service.labelling.journal.journal import Journal
from service.labelling.journal.table import Entry
from service.labelling.queue.blobs import BlobStore
from service.labelling.samples.sample import Sample
from service.redis.private_valkey import private_valkey
from tests.service.labelling.queue.own_queue import OwnQueue

MakeSample = Callable[..., Sample]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

# Drains a journal and kills itself right after the step named on its command line.
DRAIN_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from service.labelling.queue.blobs import BlobStore
from service.labelling.drain import Drain
from service.labelling.journal.journal import Journal
from service.labelling.queue.redis_queue import RedisQueue
from service.redis.server import RedisServer

folder, socket, last_step = sys.argv[1:]

def die_after(cls, step):
    method = getattr(cls, step)
    async def stepping(*args, **kwargs):
        result = await method(*args, **kwargs)
        if last_step == f"{cls.__name__}.{step}":
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(cls, step, stepping)

for cls, steps in [
    (Journal, ["oldest", "delete"]),
    (BlobStore, ["put_all"]),
    (RedisQueue, ["announce", "put", "settle"]),
]:
    for step in steps:
        die_after(cls, step)

async def main():
    journal = Journal.open(Path(folder) / "journal", max_bytes=10**9, max_rows=10**6)
    blobs = BlobStore.open(Path(folder) / "blobs")
    await Drain(journal, blobs, RedisQueue(RedisServer.open(socket, 2.0), blobs)).run()

asyncio.run(main())
"""


@dataclass
class Room:
    folder: Path
    journal: Journal
    blobs: BlobStore
    queue: OwnQueue
    drain: Drain


def open_queue(socket: Path, timeout_s: float = 2.0) -> OwnQueue:
    return OwnQueue.open(str(socket), BlobStore.open("memory:///"), timeout_s=timeout_s)


@asynccontextmanager
async def opened(folder: Path, queue: OwnQueue) -> AsyncIterator[Room]:
    """A labelling room whose drain is not running."""
    journal = Journal.open(folder / "journal", max_bytes=2**30, max_rows=10**6)
    blobs = BlobStore.open(folder / "blobs")
    yield Room(folder, journal, blobs, queue, Drain(journal, blobs, queue))
    await journal.close()


@pytest_asyncio.fixture
async def room(tmp_path: Path, queue: OwnQueue) -> AsyncIterator[Room]:
    async with opened(tmp_path, queue) as made:
        yield made


@asynccontextmanager
async def running(drain: Drain) -> AsyncIterator[None]:
    task = asyncio.create_task(drain.run())
    yield
    assert not task.done()
    await end(task)


async def append(room: Room, samples: Sequence[Sample], size: int = 20) -> None:
    await asyncio.gather(*(room.journal.append(sample, sample.id.encode() * size) for sample in samples))


async def has_arrived(room: Room, samples: Sequence[Sample]) -> bool:
    """Whether the journal is empty and each sample is in the queue, once, with its image."""
    if room.journal.rows:
        return False
    counts = await room.queue.stats(samples[0].model)
    assert counts["pending"] == counts["accepted"] == len(samples)
    leased = await room.queue.lease(samples[0].model, 1000, "ann", "all", 60)
    assert {one.sample.id for one in leased} == {sample.id for sample in samples}
    for one in leased:
        assert (await room.blobs.get(one.sample.image)).startswith(one.sample.id.encode())
    return True


async def test_samples_arrive_with_their_images_and_leave_the_journal(
    room: Room, make_sample: MakeSample, until: Until
) -> None:
    old, new = ([make_sample(f"{age} {n}", float(n)) for n in range(100)] for age in ("old", "new"))
    await append(room, old)
    async with running(room.drain):
        await append(room, new)
        await until(lambda: has_arrived(room, old + new))
    assert (room.drain.drained, room.drain.failures.errors, room.drain.failures.last_error) == (200, 0, None)


async def test_a_sample_can_be_leased_before_its_row_is_deleted(
    room: Room, model: str, make_sample: MakeSample, until: Until
) -> None:
    async def is_pending() -> bool:
        return (await room.queue.stats(model))["pending"] == 1

    async with running(room.drain):
        await append(room, [make_sample("a")])
        await until(is_pending)
        assert room.journal.rows == 1


async def test_a_row_that_is_settled_while_the_drain_reads_it_again_stays_in_the_queue_untouched(
    room: Room, model: str, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parked entry that is due makes the drain read from the start, and so read entries that wait to be settled."""
    samples = [make_sample(f"{n}") for n in range(5)]
    await append(room, samples)
    await room.drain._feed()
    room.drain._start_over()
    oldest = room.journal.oldest

    async def settled_meanwhile(n: int, *, after: int = 0) -> list[Entry]:
        monkeypatch.setattr(room.journal, "oldest", oldest)
        entries = await oldest(n, after=after)
        await room.drain._settle()
        return entries

    monkeypatch.setattr(room.journal, "oldest", settled_meanwhile)
    await room.drain.flush(30)
    assert await has_arrived(room, samples)
    assert (room.drain.drained, room.drain.failures.errors) == (5, 0)
    assert (await room.queue.stats(model))["erased"] == 0


async def test_an_audit_draw_of_an_image_that_waits_for_its_settling_counts(
    room: Room, model: str, make_sample: MakeSample
) -> None:
    flagged, drawn = make_sample("a"), make_sample("a", lane="audit", audit_probability=0.1)
    await append(room, [flagged])
    await room.drain._feed()
    await append(room, [drawn])
    await room.drain.flush(30)
    found = await room.queue.stats(model)
    assert (found["pending"], found["pending_audit"], room.journal.rows) == (1, 1, 0)
    assert (await room.queue.get(model, flagged.id)).audit_probability == 0.1


async def test_flush_empties_the_journal_for_a_shutdown(room: Room, make_sample: MakeSample) -> None:
    samples = [make_sample(f"{n}") for n in range(10)]
    await append(room, samples)
    await room.drain.flush(30)
    assert await has_arrived(room, samples)


async def test_a_flush_without_a_server_gives_up_in_time_keeps_everything_and_says_why_once(
    tmp_path: Path, make_sample: MakeSample, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, open_queue(tmp_path / "no.sock")) as room:
        await append(room, [make_sample("a")])
        await room.drain.flush(1)
        await room.drain.flush(1)
        assert (room.journal.rows, room.drain.failures.errors) == (1, 2)
        (logged,) = [record.getMessage() for record in caplog.records if record.name == "service.labelling.drain"]
        assert logged.endswith(f"will try again: {room.drain.failures.last_error}")
        assert "does not answer" in (room.drain.failures.last_error or "")
        await room.queue.close()


async def test_samples_wait_while_there_is_no_server_and_arrive_when_there_is(
    tmp_path: Path, make_sample: MakeSample, until: Until
) -> None:
    samples = [make_sample(f"{n}") for n in range(50)]
    folder = tmp_path / "valkey"

    async with opened(tmp_path, open_queue(folder / "valkey.sock")) as room:

        async def has_failed_twice() -> bool:
            return room.drain.failures.errors >= 2

        async with running(room.drain):
            await append(room, samples)
            await until(has_failed_twice)
            assert room.journal.rows == 50
            async with private_valkey(folder):
                await until(lambda: has_arrived(room, samples))
        await room.queue.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["SIGSTOP", "SIGKILL"])
async def test_appends_go_on_while_the_server_is_away_and_nothing_is_lost_or_doubled(
    tmp_path: Path, make_sample: MakeSample, until: Until, fault: str
) -> None:
    samples = [make_sample(f"{n}") for n in range(900)]
    async with (
        private_valkey(tmp_path / "valkey") as socket,
        opened(tmp_path, open_queue(socket, 0.5)) as room,
        running(room.drain),
    ):
        for start in range(0, 900, 100):
            if start in {200, 500}:
                await _break(socket, fault)
            await append(room, samples[start : start + 100])
        await until(lambda: has_arrived(room, samples))
        await room.queue.close()


async def _break(socket: Path, fault: str) -> None:
    """After SIGKILL the private server is started again by itself; SIGSTOP ends when the drain has noticed."""
    async with Redis(unix_socket_path=str(socket), socket_timeout=5) as client:
        try:
            pid = int((await client.info("server"))["process_id"])
        except Exception:  # noqa: BLE001 - it is down already
            return
    if fault == "SIGKILL":
        os.kill(pid, signal.SIGKILL)
        return
    os.kill(pid, signal.SIGSTOP)
    probe = open_queue(socket, 0.6)
    with pytest.raises(Unavailable):
        await probe.ping()
    await probe.close()
    os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "last_step",
    [
        *("Journal.oldest", "RedisQueue.announce", "BlobStore.put_all", "RedisQueue.put"),
        *("RedisQueue.settle", "Journal.delete"),
    ],
)
async def test_kill_9_after_any_step_loses_and_doubles_nothing(
    tmp_path: Path, queue: OwnQueue, server: Path, make_sample: MakeSample, last_step: str
) -> None:
    samples = [make_sample(f"{n}") for n in range(100)]
    async with opened(tmp_path, queue) as room:
        await append(room, samples)
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", DRAIN_AND_DIE, tmp_path, server, last_step)
    assert await victim.wait() == -signal.SIGKILL
    async with opened(tmp_path, queue) as room:
        await room.drain.flush(30)
        assert await has_arrived(room, samples)


@pytest.mark.slow
async def test_puts_that_the_server_lost_are_put_again(
    tmp_path: Path, model: str, make_sample: MakeSample, until: Until
) -> None:
    samples = [make_sample(f"{n}") for n in range(20)]
    async with (
        private_valkey(tmp_path / "valkey") as socket,
        opened(tmp_path, open_queue(socket)) as room,
        Redis(unix_socket_path=str(socket)) as client,
    ):

        async def are_pending() -> bool:
            return (await room.queue.stats(model))["pending"] == 20

        async with running(room.drain):
            await append(room, samples)
            await until(are_pending)
            assert room.journal.rows == 20
            await client.flushall()
            await until(lambda: has_arrived(room, samples))
        assert "lost 20 samples" in (room.drain.failures.last_error or "")
        await room.queue.close()


async def test_an_entry_that_cannot_be_read_does_not_hold_up_the_others(
    room: Room, make_sample: MakeSample, until: Until
) -> None:
    bad, good = make_sample("bad"), [make_sample(f"{n}") for n in range(10)]
    await append(room, [bad])
    with sqlite3.connect(room.folder / "journal" / "journal.sqlite3") as table:
        table.execute("UPDATE samples SET sample = x'00'")
    table.close()

    async def only_the_bad_is_left() -> bool:
        return room.journal.rows == 1

    async with running(room.drain):
        await append(room, good)
        await until(only_the_bad_is_left)
        assert [entry.id for entry in await room.journal.oldest(9)] == [bad.id]
    assert room.drain.drained == 10
    assert "not a sample" in (room.drain.failures.last_error or "")


async def test_an_entry_that_the_queue_refuses_does_not_hold_up_those_beside_it(
    room: Room, make_sample: MakeSample, until: Until
) -> None:
    bad, good = make_sample("bad", float("nan")), [make_sample(f"{n}") for n in range(10)]
    await append(room, [*good[:5], bad, *good[5:]])

    async def only_the_bad_is_left() -> bool:
        return room.journal.rows == 1

    async with running(room.drain):
        await until(only_the_bad_is_left)
        assert [entry.id for entry in await room.journal.oldest(9)] == [bad.id]


@pytest.mark.slow
async def test_a_parked_entry_is_tried_again_and_goes_when_its_trouble_is_over(
    room: Room, make_sample: MakeSample, until: Until
) -> None:
    stuck, free = make_sample("stuck", id="aa" + "0" * 30), make_sample("free", id="bb" + "0" * 30)
    announced = await room.queue.announce([stuck, free])
    in_the_way = (room.folder / "blobs" / announced[stuck.id].image).parent
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("")
    await append(room, [stuck, free])

    async def only_the_stuck_is_left() -> bool:
        return room.journal.rows == 1

    async with running(room.drain):
        await until(only_the_stuck_is_left)
        in_the_way.unlink()
        await until(lambda: has_arrived(room, [stuck, free]))


async def test_a_second_process_cannot_drain_the_same_journal(room: Room, server: Path) -> None:
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DRAIN_AND_DIE, room.folder, server, "none", stderr=subprocess.PIPE
    )
    _, message = await other.communicate()
    assert b"JournalBusy: another process has the journal" in message.splitlines()[-1]
