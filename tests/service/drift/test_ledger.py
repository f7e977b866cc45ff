"""The ledger on a real server: sums count once, one replica leads, and a server may lose data."""

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from service.drift.ledger import RETENTION_S, Ledger, LedgerKey, Parcel
from service.redis.server import OutOfMemory, RedisServer
from tests.service.labelling.queue.test_cluster import running_cluster

LEASE_S = 30.0
SUMS = np.array([1.0, 0.125, 2.0**60, 1e-300])  # whose multiples are exact


@pytest.fixture
def place() -> LedgerKey:
    return LedgerKey(f"model-{uuid.uuid4().hex[:12]}", "1", "layout")


async def test_a_retried_flush_counts_once(ledger: Ledger, place: LedgerKey) -> None:
    for sequence in (0, 0, 1, 1, 0):
        await ledger.flush(place, "a", parcel(sequence), LEASE_S)
    sums = await ledger.look(place, 3600.0)
    np.testing.assert_array_equal(sums.totals, SUMS + SUMS)
    np.testing.assert_array_equal(sums.window, SUMS + SUMS)


async def test_replicas_add_up_whatever_their_sequence_numbers(ledger: Ledger, place: LedgerKey) -> None:
    await asyncio.gather(*(ledger.flush(place, name, parcel(7), LEASE_S) for name in "abcdefgh"))
    np.testing.assert_array_equal((await ledger.look(place, 3600.0)).totals, 8 * SUMS)


async def test_the_number_of_replicas_that_share_the_traffic_is_known(ledger: Ledger, place: LedgerKey) -> None:
    assert (await ledger.look(place, 3600.0)).replicas == 1
    for name in "abc":
        await ledger.flush(place, name, parcel(1), LEASE_S)
    assert (await ledger.look(place, 3600.0)).replicas == 3
    for sequence in range(2, 90):  # the other two get almost no images
        await ledger.flush(place, "a", parcel(sequence), LEASE_S)
    assert (await ledger.look(place, 3600.0)).replicas < 1.1


async def test_other_versions_and_layouts_have_other_ledgers(ledger: Ledger, place: LedgerKey) -> None:
    await ledger.flush(place, "a", parcel(0), LEASE_S)
    for other in (replace(place, version="2"), replace(place, layout="other")):
        assert (await ledger.look(other, 3600.0)).totals.size == 0


async def test_an_empty_flush_adds_nothing_and_leads(ledger: Ledger, place: LedgerKey) -> None:
    flushed = await ledger.flush(place, "a", None, LEASE_S)
    assert flushed.token
    assert not flushed.born
    assert (await ledger.look(place, 3600.0)).totals.size == 0
    assert (await ledger.flush(place, "a", parcel(0), LEASE_S)).born


async def test_one_replica_leads_until_its_lease_runs_out(ledger: Ledger, place: LedgerKey) -> None:
    first = await ledger.flush(place, "a", parcel(0), LEASE_S)
    assert not (await ledger.flush(place, "b", parcel(0), LEASE_S)).token
    assert (await ledger.flush(place, "a", parcel(1), 0.0)).token == first.token  # keeps it, and lets it run out
    second = await ledger.flush(place, "b", parcel(1), LEASE_S)
    assert second.token not in {"", first.token}
    assert not (await ledger.flush(place, "a", parcel(2), LEASE_S)).token


async def test_a_leader_that_was_replaced_writes_nothing(ledger: Ledger, place: LedgerKey) -> None:
    old = await ledger.flush(place, "a", parcel(0), 0.0)
    new = await ledger.flush(place, "b", parcel(0), LEASE_S)
    assert await ledger.write(place, new.token, b"new", b"new report")
    assert not await ledger.write(place, old.token, b"old", b"old report")
    assert (await ledger.look(place, 3600.0)).state == b"new"
    assert (await ledger.flush(place, "c", None, LEASE_S)).report == b"new report"


async def test_a_lease_that_ran_out_unnoticed_still_writes(ledger: Ledger, place: LedgerKey) -> None:
    """No other replica became the leader, so nothing can have been counted twice."""
    only = await ledger.flush(place, "a", parcel(0), 0.0)
    assert await ledger.write(place, only.token, b"state", b"report")


async def test_a_write_may_be_repeated(ledger: Ledger, place: LedgerKey) -> None:
    leader = await ledger.flush(place, "a", parcel(0), LEASE_S)
    assert [await ledger.write(place, leader.token, b"s", b"r") for _ in range(2)] == [True, True]


async def test_a_server_that_was_emptied_by_hand_starts_again_and_the_old_leader_writes_nothing(
    ledger: Ledger, place: LedgerKey, redis: RedisServer
) -> None:
    leader = await ledger.flush(place, "a", parcel(5), LEASE_S)
    await forget(redis, place)
    assert not await ledger.write(place, leader.token, b"state", b"report")
    again = await ledger.flush(place, "a", parcel(5), LEASE_S)  # it was on its way when the server was emptied
    assert int(again.born) >= int(leader.born)
    assert again.token == leader.token  # the first token of an empty server, given to the same replica
    sums = await ledger.look(place, 3600.0)
    np.testing.assert_array_equal(sums.totals, SUMS)
    assert sums.state == b""


async def test_a_server_that_lost_its_latest_writes_gives_no_token_twice(
    ledger: Ledger, place: LedgerKey, redis: RedisServer
) -> None:
    old = await ledger.flush(place, "a", parcel(0), 0.0)
    await forget(redis, place)  # a failover to a server without the latest writes
    new = await ledger.flush(place, "b", parcel(0), LEASE_S)
    assert new.token != old.token
    assert not await ledger.write(place, old.token, b"old", b"old")


async def test_a_server_at_its_memory_limit_refuses_all_of_a_flush(
    ledger: Ledger, place: LedgerKey, redis: RedisServer
) -> None:
    await ledger.flush(place, "a", parcel(0), LEASE_S)
    admin = cast("Any", redis.client)
    await admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemory):
            await ledger.flush(place, "a", parcel(1), LEASE_S)
    finally:
        await admin.config_set("maxmemory", 0)
    await ledger.flush(place, "a", parcel(1), LEASE_S)
    np.testing.assert_array_equal((await ledger.look(place, 3600.0)).totals, 2 * SUMS)


async def test_buckets_leave_the_window_and_then_the_server(
    ledger: Ledger, place: LedgerKey, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.drift.ledger.BUCKET_S", 0.05)
    monkeypatch.setattr("service.drift.ledger.KEEP_S", 0.2)
    await ledger.flush(place, "a", parcel(0), LEASE_S)
    async with asyncio.timeout(30):
        while (await ledger.look(place, 0.1)).window.size:  # noqa: ASYNC110 - the server's clock is waited for
            await asyncio.sleep(0.02)
    np.testing.assert_array_equal((await ledger.look(place, 60.0)).window, SUMS)
    client, sequence = cast("Any", redis.client), 0
    async with asyncio.timeout(30):
        while sequence < 3 or await client.hlen(*place.keys("buckets")) >= sequence:
            sequence += 1
            await ledger.flush(place, "a", parcel(sequence), LEASE_S)
            await asyncio.sleep(0.02)
    np.testing.assert_array_equal((await ledger.look(place, 0.1)).totals, (sequence + 1) * SUMS)


async def test_a_ledger_without_flushes_expires(ledger: Ledger, place: LedgerKey, redis: RedisServer) -> None:
    leader = await ledger.flush(place, "a", parcel(0), LEASE_S)
    await ledger.write(place, leader.token, b"s", b"r")
    for key in place.keys("totals", "buckets", "receipt:a", "leader", "report", "shares"):
        left_s = await cast("Any", redis.client).ttl(key)
        assert RETENTION_S - 60 < left_s <= RETENTION_S


async def test_on_a_redis_cluster_a_version_lies_on_one_node(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster") as nodes:
        redis = RedisServer.open(f"redis://127.0.0.1:{nodes[0].port}", 5.0)
        ledger = Ledger(redis)
        places = [LedgerKey(f"model{n}", "1.0-rc_1", "layout") for n in range(6)]
        for place in places:
            leader = await ledger.flush(place, "a", parcel(0), LEASE_S)
            assert await ledger.write(place, leader.token, b"state", b"report")
            np.testing.assert_array_equal((await ledger.look(place, 3600.0)).totals, SUMS)
        await redis.close()
        assert all(node.ask("DBSIZE") for node in nodes)


def parcel(sequence: int) -> Parcel:
    return Parcel(sequence, SUMS, images=10)


async def forget(redis: RedisServer, place: LedgerKey) -> None:
    keys = place.keys("totals", "buckets", "receipt:a", "receipt:b", "leader", "report", "shares")
    await cast("Any", redis.client).delete(*keys)
