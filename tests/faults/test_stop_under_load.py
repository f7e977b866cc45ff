"""SIGTERM in full traffic: what was admitted is answered, and what was answered is kept."""

import itertools
import signal
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import stamina

CLIENTS = 8
PNG = {"content-type": "image/png"}


class Client(threading.Thread):
    """Posts lossy images, each another, until it is refused or told that its connection closes."""

    def __init__(self, url: str, images: Callable[[], bytes]) -> None:
        super().__init__()
        self._url, self._images = url, images
        self.accepted: list[str] = []
        self.refused: list[httpx.Response] = []
        self.error: httpx.TransportError | None = None

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            while True:
                try:
                    reply = http.post("/v1/predict", content=self._images(), headers=PNG)
                except httpx.TransportError as error:
                    self.error = error
                    return
                if reply.status_code == 200 and reply.json()["queue"] == "accepted":
                    self.accepted.append(reply.json()["sample_id"])
                else:
                    self.refused.append(reply)
                if reply.headers.get("connection") == "close":
                    return


@pytest.fixture
def in_traffic(grey: Callable[..., bytes]) -> Callable[[Any], list[Client]]:
    """Starts clients and returns once each has been answered."""

    def start(service: Any) -> list[Client]:
        tags = itertools.count()
        clients = [Client(str(service.http.base_url), lambda: grey(0.9, tag=next(tags))) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.05):
            with attempt:
                assert all(len(client.accepted) > 3 for client in clients)
        return clients

    return start


@pytest.mark.slow
def test_every_sample_that_got_into_the_queue_was_answered_for_and_every_answer_is_in_the_queue(
    start_service: Callable[..., Any], in_traffic: Callable[[Any], list[Client]]
) -> None:
    service = start_service()
    clients = in_traffic(service)
    assert service.stop(signal.SIGTERM) == 0
    for client in clients:
        client.join()
        assert not client.refused
    assert "Traceback" not in service.log
    service.start()
    answered = {sample for client in clients for sample in client.accepted}
    stats = service.settled(accepted=len(answered))
    assert stats["pending"] == len(answered)
    for sample in answered:
        assert service.http.get(f"/v1/samples/{sample}").status_code == 200


@pytest.mark.slow
def test_told_twice_it_waits_no_longer(start_service: Callable[..., Any]) -> None:
    service = start_service(LOSSCAST_DRAIN_S="3600")
    service.process.send_signal(signal.SIGTERM)
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert service.http.get("/v2/health/ready").status_code == 503
    assert service.stop(signal.SIGTERM) == 0


@pytest.mark.slow
def test_while_it_drains_it_is_not_ready_answers_all_who_come_and_sends_them_elsewhere(
    start_service: Callable[..., Any], in_traffic: Callable[[Any], list[Client]]
) -> None:
    service = start_service(LOSSCAST_DRAIN_S="5")
    clients = in_traffic(service)
    assert service.http.get("/v2/health/ready").status_code == 200
    service.process.send_signal(signal.SIGTERM)
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=5, wait_max=0.05):
        with attempt:
            ready = service.http.get("/v2/health/ready")
            assert ready.status_code == 503
    assert ready.headers["retry-after"]
    assert "is stopping" in ready.json()["error"]
    assert ready.headers["connection"] == "close"
    for client in clients:
        client.join()
        assert not client.refused
        assert client.error is None  # none met a connection that was cut
    assert service.http.get("/v2/health/live").status_code == 200
    assert service.process.wait(60) == 0
