"""The campaign's account against a queue whose samples are forgotten, archived and revived."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from redis import Redis

from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample, sample_id
from service.redis.private_valkey import private_valkey
from tests.faults.campaign import account
from tests.faults.campaign.ledger import Told
from tests.faults.campaign.load import MODEL
from tests.service.labelling.queue.own_queue import OwnQueue

LONG_S = 3600.0


@dataclass
class Room:
    queue: RedisQueue
    client: Redis

    async def put(self, content: str, value: float, flagged_at: float = 1.0) -> str:
        one = Sample(
            id=sample_id(MODEL, content.encode()),
            model=MODEL,
            version="1",
            content_type="image/png",
            reasons=("predicted_loss",),
            value=value,
            predicted_loss=0.5,
            score=0.5,
            ood_score=0.1,
            prediction=None,
            flagged_at=flagged_at,
            width=64,
            height=64,
            bytes=10,
        )
        await self.queue.put([one])
        return one.id

    async def forget(self) -> int:
        return int(await self.queue.scripts.run("forget", MODEL, [100]))

    def look(self) -> account.Look:
        return account.look(self.client)


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A queue with room for one sample, where finished samples may be forgotten at once."""
    policy = QueuePolicy(max_pending=1, retention_s=1e-6)
    async with private_valkey(tmp_path / "valkey") as socket:
        queue = OwnQueue.open(str(socket), BlobStore.open("memory:///"), policy)
        with Redis(unix_socket_path=str(socket), decode_responses=True) as client:
            yield Room(queue, client)
        await queue.close()


def told(*accepted: str) -> Told:
    ids = frozenset(accepted)
    return Told(posted=ids, accepted=ids, labelled={}, rejected=frozenset(), erasing=frozenset())


def problems(room: Room, *accepted: str) -> list[str]:
    now = room.look()
    posted = frozenset(accepted)
    return account.missing(told(*accepted), account.Journalled(), now, posted) + account.contradictions(now)


async def test_an_evicted_sample_and_its_next_life_are_accounted_for(room: Room) -> None:
    rich, poor = await room.put("rich", 2.0), await room.put("poor", 1.0)
    assert problems(room, rich, poor) == []
    await room.put("poor", 3.0, flagged_at=2.0)
    now = room.look()
    assert (now.ids("pending"), now.ids("evicted"), now.forgotten) == ({poor}, {rich}, 1)
    assert problems(room, rich, poor) == []


async def test_samples_past_retention_are_accounted_for(room: Room) -> None:
    ends = [await room.put("labelled", 1.0)]
    await room.queue.label(MODEL, ends[0], "ann", "t", 1)
    ends.append(await room.put("rejected", 1.0))
    await room.queue.reject(MODEL, ends[1], "ann", "t", "dark")
    ends.append(await room.put("erased", 1.0))
    await room.queue.erase(MODEL, ends[2])
    ends.append(await room.put("evicted", 1.0))
    assert problems(room, *ends) == []
    assert await room.queue.archive.fill(MODEL)
    await room.forget()
    await room.forget()
    now = room.look()
    assert (set(now.items), now.finished, now.samples, now.forgotten) == ({ends[0]}, set(), set(), 3)
    assert problems(room, *ends) == []


async def test_a_loss_is_told_from_what_was_forgotten(room: Room) -> None:
    rich, poor = await room.put("rich", 2.0), await room.put("poor", 1.0)
    never_put = sample_id(MODEL, b"never put")
    assert problems(room, rich, poor, never_put) == [f"accepted and lost: 1, e.g. ['{never_put}']"]
    await room.forget()
    assert room.look().forgotten == 1
    assert problems(room, rich, poor) == []
    (problem,) = problems(room, rich, poor, never_put)
    assert problem.startswith("accepted and lost: 2")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("HINCRBY", "counts", 1), "counter accepted"),
        (("ZREM", "finished"), "finished items and times differ"),
        (("HDEL", "receipts"), "receipts differ"),
        (("HDEL", "samples"), "items with JSON differ"),
    ],
    ids=str,
)
async def test_keys_that_disagree_are_reported(room: Room, command: tuple[str, ...], said: str) -> None:
    rejected = await room.put("a", 1.0)
    await room.queue.reject(MODEL, rejected, "ann", "t", "dark")
    name, key, *rest = command
    field = ["accepted"] if key == "counts" else [rejected]
    room.client.execute_command(name, f"losscast:{{{MODEL}}}:queue:{key}", *field, *rest)  # type: ignore[no-untyped-call]  # as redis-py has it
    (problem,) = account.contradictions(room.look())
    assert problem.startswith(said)
