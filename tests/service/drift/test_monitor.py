"""Monitors of several replicas on a real server, with traffic and with faults."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pytest_asyncio

from models.contract.loss_definition import KeypointLoss
from models.contract.manifest import Manifest
from service.drift import transition
from service.drift.detector_state import DetectorState
from service.drift.layout import Layout
from service.drift.ledger import Ledger, LedgerKey
from service.drift.monitor import Monitor
from service.drift.report.decision import Terms
from service.drift.watch import Watches
from service.errors import Unavailable
from service.labelling.queue.blobs import BlobStore
from service.labelling.samples.sample import Sample
from service.redis.server import RedisServer
from service.schemas.drift import DriftReport
from service.telemetry.metrics import Metrics
from tests.service.drift.traffic import feed
from tests.service.labelling.queue.forgetful import ForgetfulServer
from tests.service.labelling.queue.own_queue import OwnQueue

LEASE_S = 60.0


class Replica:
    def __init__(self, socket: Path, manifest: Manifest) -> None:
        self.queue = OwnQueue.open(str(socket), BlobStore.open("memory:///"), timeout_s=1.0)
        self.ledger = Ledger(self.queue.server)
        self.watches, self.metrics = Watches(10.0), Metrics()
        self.terms = Terms(flush_s=0.01)
        self.monitor = Monitor(self.watches, self.ledger, self.queue, self.metrics, self.terms)
        self.manifest = manifest
        self.watch = self.watches.open(manifest)

    async def flush(self, lease_s: float = LEASE_S) -> bool:
        return await self.monitor.flush_all(lease_s)

    @property
    def report(self) -> DriftReport:
        return self.monitor.report(self.manifest.model, self.manifest.version)

    async def totals(self) -> float:
        """Images that the ledger has."""
        sums = await self.ledger.look(self.watch.place, 3600.0)
        return float(self.watch.layout.of(sums.totals, "loss")[0]) if sums.totals.size else 0.0

    async def leads(self) -> bool:
        return bool((await self.ledger.flush(self.watch.place, self.watch.replica, None, LEASE_S)).token)


Open = Callable[..., Replica]


@pytest.fixture
def manifest(watched: Manifest) -> Manifest:
    """Without image signals: the canvases of these tests are all alike."""
    reference = {name: watched.drift_reference[name] for name in ("score", "ood_score")}
    loss = watched.loss.model_copy(update={"definition": KeypointLoss()})
    return watched.model_copy(update={"drift_reference": reference, "loss": loss})


@pytest_asyncio.fixture
async def open_replica(server: Path, manifest: Manifest) -> AsyncIterator[Open]:
    opened: list[Replica] = []

    def open_one(socket: Path = server, of: Manifest = manifest) -> Replica:
        opened.append(Replica(socket, of))
        return opened[-1]

    yield open_one
    for replica in opened:
        await replica.queue.close()


async def serve(replica: Replica, n: int, shift: float = 0.0, seed: int = 0, flushes: int = 10) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(flushes):
        feed(replica.watch.tally, n // flushes, rng, shift)
        await replica.flush()


async def test_one_replica_leads_and_all_have_the_report(open_replica: Open) -> None:
    first, second = open_replica(), open_replica()
    await serve(first, 1000)
    await serve(second, 1000, seed=1)
    await first.flush()
    await second.flush()
    assert await first.leads()
    assert not await second.leads()
    assert first.report.observations == second.report.observations == 2000
    assert first.report.model_copy(update={"age_s": 0.0}) == second.report.model_copy(update={"age_s": 0.0})


async def test_every_replica_reports_a_shift(open_replica: Open) -> None:
    first, second = open_replica(), open_replica()
    await serve(first, 1300)
    await serve(second, 1300, seed=1)
    for seed in range(2, 6):
        await serve(second, 100, 0.25, seed, flushes=2)
        await first.flush()
    await second.flush()
    assert second.report.state == "drift"
    assert second.report.moved == ["score"]


async def test_another_replica_continues_where_a_dead_leader_stopped(open_replica: Open) -> None:
    first, second = open_replica(), open_replica()
    await serve(first, 1600)
    await serve(first, 300, 0.3, seed=1)
    known = first.report
    assert known.evidence > 1
    await first.flush(lease_s=0.0)  # its last flush; its lease ends at once
    await serve(second, 10, 0.3, seed=2)
    assert await second.leads()
    assert second.report.evidence >= known.evidence
    assert second.report.observations == 1910


async def test_a_leader_that_was_replaced_during_its_update_writes_nothing(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = open_replica(), open_replica()
    await serve(slow, 100)
    read = slow.ledger.look

    async def look_and_be_replaced(place: LedgerKey, window_s: float) -> Any:
        sums = await read(place, window_s)
        await slow.ledger.flush(place, slow.watch.replica, None, 0.0)  # its lease runs out
        feed(quick.watch.tally, 50, np.random.default_rng(5))
        await quick.flush()
        return sums

    monkeypatch.setattr(slow.ledger, "look", look_and_be_replaced)
    assert await slow.flush()
    monkeypatch.undo()
    assert slow.report.observations == 100
    assert quick.report.observations == 150
    state = (await quick.ledger.look(quick.watch.place, 3600.0)).state
    await slow.flush()
    assert slow.report.observations == 150
    assert (await quick.ledger.look(quick.watch.place, 3600.0)).state == state


async def test_while_the_server_is_away_nothing_is_lost_and_the_last_report_has_its_age(
    open_replica: Open, forgetful_server: ForgetfulServer
) -> None:
    replica = open_replica(forgetful_server.socket)
    await serve(replica, 100)
    await forgetful_server.snapshot()
    await forgetful_server.kill()
    rng = np.random.default_rng(1)
    for _ in range(5):
        feed(replica.watch.tally, 100, rng)
        assert not await replica.flush()
    assert replica.watch.unflushed == 500
    assert replica.report.observations == 100
    assert replica.report.age_s > 0
    assert replica.monitor.errors == 5
    await forgetful_server.start()
    assert await replica.flush()
    assert await replica.flush()  # the images that came while the first parcel was on its way
    assert await replica.totals() == 600
    assert replica.report.observations == 600


async def test_without_a_server_from_the_start_there_is_no_report_and_a_reason(
    open_replica: Open, tmp_path: Path
) -> None:
    replica = open_replica(tmp_path / "nobody.sock")
    assert not await replica.flush()
    with pytest.raises(Unavailable, match=r"no drift report of model-\w+ 1 yet: the queue's server .* does not answer"):
        _ = replica.report


async def test_after_a_server_was_emptied_by_hand_evidence_starts_again(open_replica: Open, redis: RedisServer) -> None:
    replica = open_replica()
    await serve(replica, 1600)
    await serve(replica, 300, 0.25, seed=1)
    assert replica.report.state == "drift"
    keys = [key async for key in cast("Any", redis.client).scan_iter(match=f"*{replica.manifest.model}*")]
    await cast("Any", redis.client).delete(*keys)
    feed(replica.watch.tally, 70, np.random.default_rng(2))
    assert await replica.flush()
    assert await replica.totals() == 70
    assert (replica.report.state, replica.report.observations) == ("insufficient_data", 70)


async def test_a_version_that_is_replaced_in_mid_window_keeps_its_own_count(open_replica: Open) -> None:
    replica = open_replica()
    feed(replica.watch.tally, 30, np.random.default_rng(0))
    new = replica.watches.open(replica.manifest.model_copy(update={"version": "2"}))
    replica.watch.retire()
    feed(new.tally, 20, np.random.default_rng(1))
    assert await replica.flush()
    assert await replica.totals() == 30
    assert replica.monitor.report(replica.manifest.model, "2").observations == 20
    assert list(replica.watches) == [new]
    with pytest.raises(Unavailable):
        replica.monitor.report(replica.manifest.model, "1")


async def test_ten_requests_a_day_are_too_few(open_replica: Open) -> None:
    replica = open_replica()
    await serve(replica, 10, 0.4)
    assert replica.report.state == "insufficient_data"


async def test_audit_labels_correct_the_estimate_and_are_read_once(open_replica: Open) -> None:
    replica = open_replica()
    await serve(replica, 1100)
    await label(replica, 60)
    for _ in range(3):
        await replica.flush()
    loss = replica.report.loss
    assert loss is not None
    assert (loss.assumes_head, loss.audit_labels) == (False, 60)
    assert loss.value == pytest.approx(0.5 + 1.5 - 0.5, abs=0.1)  # mean predicted, and true less predicted of labels


async def test_unreadable_labels_stop_nothing_and_are_logged_once(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica = open_replica()

    async def broken(*_: object) -> None:
        raise RuntimeError("the archive is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(replica.queue, "labels", broken)
        await serve(replica, 100)
    assert replica.report.observations == 100
    assert replica.monitor.errors == 0  # no flush failed
    told = [record.getMessage() for record in caplog.records if "the archive is damaged" in record.getMessage()]
    assert told == [
        f"drift of {replica.manifest.model} 1 (labels) failed and will try again: RuntimeError: the archive is damaged"
    ]


async def test_a_label_store_that_hangs_delays_no_flush(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica = open_replica()

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(replica.queue, "labels", hang)
    monkeypatch.setattr("service.drift.monitor.LABELS_S", 0.01)
    async with asyncio.timeout(30):
        await serve(replica, 100, flushes=2)
    assert replica.report.observations == 100
    assert "no labels in 0.01 s" in caplog.text


async def test_a_version_that_fails_delays_no_other(open_replica: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = open_replica()
    other = replica.watches.open(replica.manifest.model_copy(update={"version": "2"}))
    deliver, tried = replica.ledger.flush, []

    async def fail_one(place: LedgerKey, *arguments: Any) -> Any:
        tried.append(place.version)
        if place.version == "1":
            raise Unavailable("out of order")
        return await deliver(place, *arguments)

    monkeypatch.setattr(replica.ledger, "flush", fail_one)
    working = asyncio.create_task(replica.monitor.run(lambda _: "1"))
    async with asyncio.timeout(30):
        while tried.count("2") < 20:
            feed(other.tally, 1, np.random.default_rng(0))
            await asyncio.sleep(0.001)
    working.cancel()
    await asyncio.wait({working})
    assert tried.count("1") < 10
    with pytest.raises(Unavailable, match="out of order"):
        _ = replica.report


async def test_without_traffic_only_a_report_is_written_each_minute(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = open_replica()
    written: list[tuple[int, int]] = []
    write = replica.ledger.write

    async def count(place: LedgerKey, token: str, state: bytes, report: bytes) -> bool:
        written.append((len(state), len(report)))
        return await write(place, token, state, report)

    monkeypatch.setattr(replica.ledger, "write", count)
    await serve(replica, 100, flushes=2)
    stored = (await replica.ledger.look(replica.watch.place, 3600.0)).state
    told = replica.report.updated_at
    for _ in range(5):
        await replica.flush()
    assert len(written) == 2
    assert replica.report.updated_at == told
    monkeypatch.setattr("service.drift.monitor.REPORT_S", 0.0)
    await replica.flush()
    assert (len(written), written[-1][0]) == (3, 0)
    assert replica.report.updated_at > told
    assert (await replica.ledger.look(replica.watch.place, 3600.0)).state == stored
    await serve(replica, 10, flushes=1)
    assert replica.report.observations == 110
    assert (await replica.ledger.look(replica.watch.place, 3600.0)).state != stored


async def test_metrics_have_only_the_live_version(open_replica: Open) -> None:
    replica = open_replica()
    replica.watches.open(replica.manifest.model_copy(update={"version": "2"}))
    feed(replica.watch.tally, 40, np.random.default_rng(0))
    working = asyncio.create_task(replica.monitor.run(lambda _: "1"))
    name, model = "losscast_drift_state", replica.manifest.model
    expected = f'{name}{{model="{model}",state="insufficient_data"}} 1.0'
    async with asyncio.timeout(30):
        while expected not in replica.metrics.render().decode():  # noqa: ASYNC110 - the monitor works at its own pace
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.wait({working})
    counted = f'losscast_drift_observations_total{{model="{model}",outcome="counted"}} 40.0'
    assert counted in replica.metrics.render().decode()


async def test_the_age_of_a_report_does_not_depend_on_this_machines_clock(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = open_replica()
    await serve(replica, 10)
    ahead_s = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: ahead_s)
    assert replica.report.age_s < 60
    replica.metrics.drift(replica.report)
    name = f'losscast_drift_report_age_seconds{{model="{replica.manifest.model}"}} '
    (line,) = (line for line in replica.metrics.render().decode().splitlines() if line.startswith(name))
    assert float(line.removeprefix(name)) < 60


async def test_a_shutdown_flushes_and_gives_up_the_lead(open_replica: Open) -> None:
    leaving, staying = open_replica(), open_replica()
    await serve(leaving, 100)
    feed(leaving.watch.tally, 25, np.random.default_rng(1))
    await leaving.monitor.close(5.0)
    assert await staying.totals() == 125
    await staying.flush()
    assert await staying.leads()


async def test_a_shutdown_does_not_wait_for_a_server_that_hangs(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica = open_replica()
    feed(replica.watch.tally, 25, np.random.default_rng(1))

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(replica.ledger, "flush", hang)
    await replica.monitor.close(0.01)
    assert "25 images were not flushed" in caplog.text


async def test_a_fault_in_the_update_does_not_end_the_monitor(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = open_replica()
    with monkeypatch.context() as patch:
        patch.setattr("service.drift.transition.update", lambda *_: 1 / 0)
        feed(replica.watch.tally, 25, np.random.default_rng(1))
        assert not await replica.flush()
    assert await replica.flush()
    assert replica.report.observations == 25


async def test_a_fresh_state_replaces_one_that_cannot_be_updated(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica = open_replica()
    await serve(replica, 100)
    update = transition.update

    def fail_on_old(layout: Layout, state: DetectorState, *arguments: Any) -> DetectorState:
        if state.born:
            raise ValueError("shapes do not match")
        return update(layout, state, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("service.drift.transition.update", fail_on_old)
        feed(replica.watch.tally, 25, np.random.default_rng(1))
        assert await replica.flush()
    assert replica.report.observations == 125
    assert "starts from a fresh state" in caplog.text


async def label(replica: Replica, n: int) -> None:
    """Labels of the audit lane with a true loss of 1.5 pixels, where the head predicted .5."""
    for number in range(n):
        sample = Sample(
            id=f"{number:032x}",
            model=replica.manifest.model,
            version="1",
            content_type="image/png",
            reasons=(),
            value=1.0,
            predicted_loss=0.5,
            score=0.5,
            ood_score=0.1,
            prediction={"kind": "keypoints", "values": [[2.0, 2.0], [6.0, 6.0]]},
            flagged_at=time.time(),
            lane="audit",
            audit_probability=0.5,
            width=8,
            height=8,
        )
        await replica.queue.put([sample])
        await replica.queue.label(sample.model, sample.id, "ada", "t", {"values": [[2.0, 5.0], [6.0, 6.0]]})
