"""Redis is stopped or killed during traffic, or the service is killed: predictions go on, and no sample is lost."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stamina

from tests.running import Redis

Grey = Callable[..., bytes]
CLIENTS = 4


class Traffic:
    """Clients that post different lossy images in parallel, until all are posted or the service is gone."""

    def __init__(self, http: httpx.Client, grey: Grey, tags: range) -> None:
        self._http, self._grey = http, grey
        self._accepted: SimpleQueue[str] = SimpleQueue()
        self._threads = ThreadPoolExecutor(CLIENTS)
        self._clients = [self._threads.submit(self._post, tags[first::CLIENTS]) for first in range(CLIENTS)]

    def first(self, number: int) -> set[str]:
        """The ids of the first accepted samples; the clients go on with the next ones."""
        ids = {self._accepted.get(timeout=30) for _ in range(number)}
        assert not any(client.done() for client in self._clients)
        return ids

    def rest(self) -> set[str]:
        """All other ids, once every client has finished."""
        self._threads.shutdown()
        for client in self._clients:
            client.result()
        return {self._accepted.get() for _ in range(self._accepted.qsize())}

    def _post(self, tags: range) -> None:
        for tag in tags:
            body = self._grey(0.8, tag=tag)
            try:
                reply = self._http.post("/v1/predict", content=body, headers={"content-type": "image/png"})
            except httpx.TransportError:
                return
            assert reply.status_code == 200, reply.text
            if reply.json()["queue"] == "accepted":
                self._accepted.put(reply.json()["sample_id"])


def leased_ids(http: httpx.Client) -> list[str]:
    """Leases all samples. Returns their ids in that order."""
    ids: list[str] = []
    while True:
        request = {"n": 100, "annotator": "ada", "token": uuid4().hex}
        batch = [one["sample_id"] for one in http.post("/v1/queue/lease", json=request).json()["samples"]]
        if not batch:
            return ids
        ids += batch


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_redis_fails_while_requests_are_in_flight(
    start_service: Callable[..., Any], redis: Redis, grey: Grey, fault: signal.Signals
) -> None:
    service = start_service(LOSSCAST_REDIS_URL=f"unix://{redis.socket}", LOSSCAST_REDIS_TIMEOUT_S="0.5")
    traffic = Traffic(service.http, grey, range(500))
    accepted = traffic.first(100)
    redis.send(fault)
    accepted |= traffic.rest()
    assert service.http.get("/v1/queue/stats").status_code == 503
    if fault == signal.SIGSTOP:
        redis.send(signal.SIGCONT)
    else:
        redis.start()
    assert len(accepted) == 500
    service.settled(500)
    ids = leased_ids(service.http)
    assert len(ids) == len(set(ids))
    assert set(ids) == accepted


@pytest.mark.slow
def test_every_accepted_sample_survives_kill_minus_9_of_service_and_valkey_while_requests_are_in_flight(
    start_service: Callable[..., Any], grey: Grey, tmp_path: Path, servers_in: Callable[[Path], list[int]]
) -> None:
    service = start_service()
    accepted: set[str] = set()
    for round_number in range(5):
        traffic = Traffic(service.http, grey, range(1000 * round_number, 1000 * round_number + 1000))
        accepted |= traffic.first(100)
        service.process.kill()
        for pid in servers_in(tmp_path):
            os.kill(pid, signal.SIGKILL)
        accepted |= traffic.rest()
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
        service.start()
    assert 500 <= len(accepted) < 5000
    found: set[str] = set()
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.2):
        with attempt:
            found |= set(leased_ids(service.http))
            assert accepted <= found


@pytest.mark.slow
def test_the_end_of_the_service_is_the_end_of_its_valkey(
    start_service: Callable[..., Any], grey: Grey, tmp_path: Path, servers_in: Callable[[Path], list[int]]
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        service = start_service()
        assert len(Traffic(service.http, grey, range(3)).rest()) == 3
        service.settled(3)
        assert servers_in(tmp_path)
        assert service.stop(number) == 0, service.log
        assert not servers_in(tmp_path)
