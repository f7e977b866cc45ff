"""Promotion and rollback with two replicas under traffic, in real processes: no request fails."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import httpx
import pytest
import stamina

from models.contract.index import ModelIndex, read_index, write_index
from service.client import ClientError, LosscastClient
from tests import command_line
from tests.running import Redis, Service

CLIENTS = 2  # for each replica
PNG = {"content-type": "image/png"}

Replies = list[tuple[int, str]]


@pytest.fixture
def replicas(tmp_path: Path, publish_version: Callable[..., None], redis: Redis) -> Iterator[list[Service]]:
    """Two services on one store with the versions 1, live, and 2, and on one Redis server."""
    store = tmp_path / "bundles"
    for version in (1, 2):
        publish_version(store, version)
    write_index(store / "tiny", ModelIndex(live=1))
    services = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        settings = {"LOSSCAST_POLL_S": "0.1", "LOSSCAST_REDIS_URL": f"unix://{redis.socket}"}
        services.append(Service(store, tmp_path / name, **settings))
        services[-1].start()
    yield services
    for service in services:
        if service.process is not None and service.process.poll() is None:
            service.process.send_signal(signal.SIGCONT)
            assert service.stop() == 0


@pytest.mark.slow
def test_two_replicas_follow_a_promotion_and_a_rollback_and_no_request_fails(
    replicas: list[Service], grey: Callable[..., bytes]
) -> None:
    with _traffic(replicas, grey(0.2)) as replies, LosscastClient(str(replicas[0].http.base_url)) as client:
        _all_known(client, "1")
        reply = client.promote("tiny", 2, expected_live=1, reason="a test", wait_s=60)
        assert (reply.served, reply.complete, [one.serves for one in reply.replicas]) == ("2", True, [True, True])
        _served(replicas, "2")
        with LosscastClient(str(replicas[1].http.base_url)) as other:
            reply = other.rollback("tiny", expected_live=2, reason="a test", who="ada", wait_s=60)
            assert (reply.served, reply.complete, [one.version for one in reply.replicas]) == ("1", True, ["1", "1"])
            assert [change.event for change in other.history("tiny").changes] == ["rolled_back", "promoted", "live"]
        _served(replicas, "1")
    assert {status for one in replies for status, _ in one} == {200}
    assert all({version for _, version in one} == {"1", "2"} for one in replies)


@pytest.mark.slow
def test_of_two_promotions_by_two_replicas_at_once_one_is_refused(
    replicas: list[Service], publish_version: Callable[..., None]
) -> None:
    publish_version(replicas[0].store, 3)
    said: dict[int, str] = {}
    start = threading.Barrier(2)

    def promote(service: Service, version: int) -> None:
        with LosscastClient(str(service.http.base_url)) as client:
            start.wait()
            try:
                said[version] = client.promote("tiny", version, expected_live=1, reason="a test").live
            except ClientError as error:
                said[version] = str(error)

    threads = [threading.Thread(target=promote, args=one) for one in zip(replicas, (2, 3), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = read_index(replicas[0].store / "tiny").live
    loser = 5 - winner
    assert said[winner] == str(winner)
    assert f"version {winner} of tiny is live, not 1" in said[loser]
    _served(replicas, str(winner))


@pytest.mark.slow
def test_a_replica_that_is_away_is_named_and_the_change_stands(replicas: list[Service]) -> None:
    here, away = replicas
    assert away.process is not None
    with LosscastClient(str(here.http.base_url)) as client:
        _all_known(client, "1")
        away.process.send_signal(signal.SIGSTOP)
        done = _losscast(here, "promote", "tiny", 2, "--reason", "a test", "--wait-s", 0.5)
        assert (done.returncode, done.stdout) == (1, "tiny: version 2 is live; 1 is the previous version.\n")
        assert done.stderr.startswith("losscast: the change stands, but ")
        assert f"-{away.process.pid}-" in done.stderr
        assert " does not serve version 2: it " in done.stderr
        assert read_index(here.store / "tiny").live == 2
        done = _losscast(here, "promote", "tiny", 2, "--reason", "a test", "--wait-s", 0, "--json")
        assert done.returncode == 1
        fields = json.loads(done.stdout)
        assert {one["serves"] for one in fields["replicas"]} == {True, False}
        away.process.send_signal(signal.SIGCONT)
        assert client.promote("tiny", 2, expected_live=1, reason="a test", wait_s=60).complete
    done = _losscast(away, "rollback", "tiny", "--reason", "a test", "--wait-s", 60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "Served by 2 replicas."


def _all_known(client: LosscastClient, live: str) -> None:
    """Returns once both replicas know of each other. Changes nothing: that version is live."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            known = client.promote("tiny", live, expected_live=live, reason="nothing", wait_s=0)
            assert len(known.replicas) == 2


def _losscast(service: Service, *arguments: object) -> "CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")}
    environment = {**own, "COLUMNS": "300", "NO_COLOR": "1", "LOSSCAST_URL": str(service.http.base_url)}
    return command_line.run(*arguments, environment=environment)


@contextmanager
def _traffic(replicas: list[Service], image: bytes) -> Iterator[list[Replies]]:
    """Clients that post without a pause; status and version of every reply, by client."""
    over = threading.Event()
    replies: list[Replies] = [[] for _ in range(CLIENTS * len(replicas))]

    def post(service: Service, mine: Replies) -> None:
        with httpx.Client(base_url=service.http.base_url, timeout=30) as http:
            while not over.is_set():
                try:
                    reply = http.post("/v1/predict", content=image, headers=PNG)
                    mine.append((reply.status_code, reply.json().get("version", "")))
                except httpx.HTTPError as error:
                    mine.append((0, repr(error)))

    threads = [
        threading.Thread(target=post, args=(replicas[number % len(replicas)], mine))
        for number, mine in enumerate(replies)
    ]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _served(replicas: list[Service], version: str) -> None:
    """Returns once every replica serves that version."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            for service in replicas:
                (tiny,) = service.http.get("/v1/models").json()["models"]
                assert tiny["live"] == version, service.log
