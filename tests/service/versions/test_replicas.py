"""What replicas say of each other, on a real server."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from service.background import end
from service.redis.server import RedisServer
from service.versions import replicas
from service.versions.registry import Registry
from service.versions.replicas import Replica, Replicas, new_name

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


class Served:
    """The versions that one replica serves, in the place of its registry."""

    def __init__(self, **live: str | None) -> None:
        self.live = live
        self.moved = asyncio.Event()

    def served(self) -> dict[str, str | None]:
        return dict(self.live)

    def go_live(self, model: str, version: str) -> None:
        self.live[model] = version
        self.moved.set()


@pytest.fixture
def join(redis: RedisServer) -> Callable[..., Replicas]:
    """Another replica, on the same server."""
    numbers = itertools.count(1)

    def make(served: Served, server: RedisServer = redis) -> Replicas:
        return Replicas(server, cast("Registry", served), f"replica-{next(numbers)}")

    return make


@asynccontextmanager
async def running(*some: Replicas) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.run()) for one in some]
    try:
        yield
    finally:
        for task in tasks:
            await end(task)


def never() -> bool:
    return False


async def test_a_change_is_complete_once_every_replica_has_followed(
    join: Callable[..., Replicas], model: str, until: Until
) -> None:
    mine, other = Served(**{model: "2"}), Served(**{model: "1"})
    first, second = join(mine), join(other)
    async with running(first, second):
        await until(lambda: both_are_known(first, model))
        found = await first.wait(model, "2", 0, never)
        assert [(one.name, one.version, one.serves("2")) for one in found.replicas] == [
            ("replica-1", "2", True),
            ("replica-2", "1", False),
        ]
        assert not found.is_complete("2")
        asyncio.get_running_loop().call_later(0.2, other.go_live, model, "2")
        found = await first.wait(model, "2", 30, never)
    assert found.is_complete("2")
    assert [one.version for one in found.replicas] == ["2", "2"]


async def test_a_replica_that_leaves_is_waited_for_no_longer(
    join: Callable[..., Replicas], model: str, until: Until
) -> None:
    first, second = join(Served(**{model: "2"})), join(Served(**{model: "1"}))
    async with running(second):
        await until(lambda: both_are_known(first, model))
    await second.close(5.0)
    assert [one.name for one in (await first.wait(model, "2", 30, never)).replicas] == ["replica-1"]


async def both_are_known(first: Replicas, model: str) -> bool:
    return len((await first.wait(model, "2", 0, never)).replicas) == 2


async def test_a_model_that_is_unloaded_or_serves_nothing_is_said_to(
    join: Callable[..., Replicas], model: str, until: Until
) -> None:
    other = Served(**{model: None})
    first, second = join(Served(**{model: "2"})), join(other)
    async with running(second):
        await until(lambda: both_are_known(first, model))
        found = await first.wait(model, "2", 0, never)
        assert found.replicas[1].version is None
        assert not found.is_complete("2")
        other.live.clear()
        other.moved.set()
        found = await first.wait(model, "2", 30, never)
    assert [one.name for one in found.replicas] == ["replica-1"]
    assert found.is_complete("2")


async def test_a_silent_replica_is_named_and_later_forgotten(
    join: Callable[..., Replicas], model: str, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join(Served(**{model: "2"})), join(Served(**{model: "2"}))
    await second.wait(model, "2", 0, never)  # its last word
    assert (await first.wait(model, "2", 0, never)).is_complete("2")
    await silence(redis, model, "replica-2", replicas.AWAY_S + 1)
    found = await first.wait(model, "2", 0.3, never)
    assert not found.is_complete("2")
    assert [one.serves("2") for one in found.replicas] == [True, False]
    assert found.replicas[1].silent_s == pytest.approx(replicas.AWAY_S + 1, abs=5)
    monkeypatch.setattr(replicas, "FORGET_S", replicas.AWAY_S)
    assert [one.name for one in (await first.wait(model, "2", 0, never)).replicas] == ["replica-1"]
    await silence(redis, model, "replica-2", replicas.KEEP_S + 1)
    await first.wait(model, "2", 0, never)
    client = cast("Any", redis.client)
    assert await client.hkeys(f"losscast:{{{model}}}:replicas") == [b"replica-1"]
    assert 0 < await client.pttl(f"losscast:{{{model}}}:replicas") <= 1000 * replicas.KEEP_S


async def silence(redis: RedisServer, model: str, name: str, seconds: float) -> None:
    """Makes the last word of a replica older."""
    client, key = cast("Any", redis.client), f"losscast:{{{model}}}:replicas"
    at_ms, _, version = (await client.hget(key, name)).decode().partition(" ")
    await client.hset(key, name, f"{int(at_ms) - round(1000 * seconds)} {version}")


async def test_who_was_known_when_the_wait_began_is_named_at_its_end(
    join: Callable[..., Replicas], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join(Served(**{model: "2"})), join(Served(**{model: "1"}))
    await second.wait(model, "2", 0, never)
    monkeypatch.setattr(replicas, "FORGET_S", 0.5)
    found = await first.wait(model, "2", 0.9, never)
    assert [one.name for one in found.replicas] == ["replica-1", "replica-2"]


async def test_the_wait_ends_when_the_service_stops_and_when_another_version_goes_live_here(
    join: Callable[..., Replicas], model: str
) -> None:
    mine = Served(**{model: "2"})
    first, second = join(mine), join(Served(**{model: "1"}))
    await second.wait(model, "1", 0, never)
    assert not (await first.wait(model, "2", 3600, lambda: True)).is_complete("2")
    asyncio.get_running_loop().call_later(0.2, mine.go_live, model, "1")
    assert not (await first.wait(model, "2", 3600, never)).is_complete("2")


@pytest.fixture
def away(tmp_path: Path) -> RedisServer:
    """No server answers there."""
    return RedisServer.open(str(tmp_path / "no.sock"), 0.2)


async def test_without_the_server_this_replica_alone_is_known_and_the_reply_says_so(
    join: Callable[..., Replicas], model: str, away: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    first = join(Served(**{model: "2"}), away)
    async with running(first):
        found = await first.wait(model, "2", 0.2, never)
    await first.close(1.0)
    assert found.replicas == [Replica("replica-1", "2", 0.0)]
    assert found.unseen is not None
    assert found.unseen.startswith("other replicas are not known: the queue's server")
    assert not found.is_complete("2")
    failed = [line for line in caplog.messages if "telling other replicas" in line]
    assert len(failed) == 1
    await away.close()


async def test_a_server_that_lost_what_was_said_makes_no_change_complete_until_all_have_spoken_again(
    join: Callable[..., Replicas], model: str, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = join(Served(**{model: "2"}))
    assert (await first.wait(model, "2", 0, never)).is_complete("2")
    await cast("Any", redis.client).delete(f"losscast:{{{model}}}:replicas")
    found = await first.wait(model, "2", 0, never)
    assert found.unseen == replicas.LOST
    assert not found.is_complete("2")
    monkeypatch.setattr(replicas, "AWAY_S", 0.3)
    assert (await first.wait(model, "2", 30, never)).is_complete("2")


async def test_an_entry_that_nobody_wrote_so_is_dropped_and_a_key_of_another_kind_is_told(
    join: Callable[..., Replicas], model: str, redis: RedisServer
) -> None:
    first, client, key = join(Served(**{model: "2"})), cast("Any", redis.client), f"losscast:{{{model}}}:replicas"
    await client.hset(key, "odd", "no time")
    assert [one.name for one in (await first.wait(model, "2", 0, never)).replicas] == ["replica-1"]
    await client.delete(key)
    await client.set(key, "text")
    assert "WRONGTYPE" in str((await first.wait(model, "2", 0, never)).unseen)


def test_every_process_has_a_name_of_its_own() -> None:
    assert new_name() != new_name()
    assert new_name().isprintable()
