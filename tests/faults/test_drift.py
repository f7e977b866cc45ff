"""The drift ledger while processes are killed: flushed images count once, and another replica goes on."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import stamina

from tests.running import Redis, Service

Grey = Callable[..., bytes]
Replicas = list[Service]


@pytest.fixture
def replicas(tiny_store: Path, tmp_path: Path, redis: Redis) -> Iterator[Replicas]:
    """Two services on one Redis server."""
    with ExitStack() as stack:
        made = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            environment = {"LOSSCAST_REDIS_URL": f"unix://{redis.socket}", "LOSSCAST_DRIFT_FLUSH_S": "0.1"}
            service = Service(tiny_store, tmp_path / name, **environment, LOSSCAST_REDIS_TIMEOUT_S="0.5")
            service.start()
            stack.callback(_end, service)
            made.append(service)
        yield made


def _end(service: Service) -> None:
    if service.process is not None and service.process.poll() is None:
        service.stop()


def post(service: Service, grey: Grey, n: int) -> None:
    for tag in range(n):
        assert service.http.post("/v1/predict", content=grey(0.2, tag=tag)).status_code == 200


def reported(service: Service, observations: int) -> dict[str, Any]:
    """The report, once it has that many images and is fresh."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.1):
        with attempt:
            reply = service.http.get("/v1/drift")
            assert reply.status_code == 200, reply.text
            report = reply.json()
            assert report["observations"] == observations
            assert report["age_s"] < 2
    return dict(report)


def test_a_killed_replica_leaves_its_flushed_counts_and_the_other_goes_on(replicas: Replicas, grey: Grey) -> None:
    first, second = replicas  # the first one leads, because it started first
    post(first, grey, 20)
    post(second, grey, 10)
    reported(second, 30)
    first.stop(signal.SIGKILL)
    post(second, grey, 5)
    report = reported(second, 35)
    first.start()
    post(first, grey, 7)
    assert reported(first, 42)["updated_at"] > report["updated_at"]


def test_a_replica_that_stops_flushes_its_counts(replicas: Replicas, grey: Grey) -> None:
    first, second = replicas
    post(first, grey, 20)
    assert first.stop() == 0
    reported(second, 20)


def test_a_leader_that_stands_still_is_replaced_and_causes_no_error_when_it_wakes(
    replicas: Replicas, grey: Grey
) -> None:
    first, second = replicas
    post(first, grey, 20)
    reported(second, 20)
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    post(second, grey, 5)
    reported(second, 25)
    first.process.send_signal(signal.SIGCONT)
    post(first, grey, 5)
    reported(first, 30)
    reported(second, 30)


def test_while_redis_is_away_predictions_go_on_and_count_when_it_is_back(
    replicas: Replicas, redis: Redis, grey: Grey
) -> None:
    first, second = replicas
    post(first, grey, 20)
    reported(first, 20)
    reported(second, 20)
    redis.send(signal.SIGKILL)
    post(first, grey, 8)
    post(second, grey, 4)
    last = first.http.get("/v1/drift").json()
    assert last["observations"] <= 20
    assert "losscast_drift_unflushed_observations 8.0" in first.http.get("/metrics").text
    redis.start()
    reported(first, 32)
    reported(second, 32)
