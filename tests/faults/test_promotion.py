"""Promotion and rollback with two replicas under traffic, in real processes: no request fails."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import stamina

from models.contract.index import ModelIndex, read_index, write_index
from service.client import ClientError, LosscastClient
from tests.running import Service

CLIENTS = 2  # for each replica
PNG = {"content-type": "image/png"}

Replies = list[tuple[int, str]]


@pytest.fixture
def replicas(tmp_path: Path, publish_version: Callable[..., None]) -> Iterator[list[Service]]:
    """Two services on one store with the versions 1, live, and 2."""
    store = tmp_path / "bundles"
    for version in (1, 2):
        publish_version(store, version)
    write_index(store / "tiny", ModelIndex(live=1))
    services = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        services.append(Service(store, tmp_path / name, LOSSCAST_POLL_S="0.1"))
        services[-1].start()
    yield services
    for service in services:
        if service.process is not None and service.process.poll() is None:
            assert service.stop() == 0


@pytest.mark.slow
def test_two_replicas_follow_a_promotion_and_a_rollback_and_no_request_fails(
    replicas: list[Service], grey: Callable[..., bytes]
) -> None:
    with _traffic(replicas, grey(0.2)) as replies, LosscastClient(str(replicas[0].http.base_url)) as client:
        assert client.promote("tiny", 2, expected_live=1, reason="a test").served == "2"
        _served(replicas, "2")
        with LosscastClient(str(replicas[1].http.base_url)) as other:
            assert other.rollback("tiny", expected_live=2, reason="a test", who="ada").served == "1"
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
