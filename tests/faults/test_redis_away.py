"""Redis stopped and killed in mid-traffic, the service killed: predictions go on, samples arrive, none is lost."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

from service.labelling.embedded import _program

Grey = Callable[..., bytes]


class Redis:
    """A server of the test's own, on a unix socket, with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--appendonly", "yes", "--dir", str(self._folder)]
        self.process = subprocess.Popen([_program(), *options], stdout=subprocess.DEVNULL)
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
            with attempt:
                assert self.socket.exists()

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(10)
            self.socket.unlink()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Redis(folder)
    server.start()
    yield server
    assert server.process is not None
    server.process.send_signal(signal.SIGCONT)
    server.process.kill()
    server.process.wait(10)


def post_lossy(http: httpx.Client, grey: Grey, tags: range) -> set[str]:
    """Posts that many different lossy images; the ids of those whose reply says accepted."""
    ids = set()
    for tag in tags:
        reply = http.post("/v1/predict", content=grey(0.8, tag=tag), headers={"content-type": "image/png"})
        assert reply.status_code == 200, reply.text
        if reply.json()["queue"] == "accepted":
            ids.add(reply.json()["sample_id"])
    return ids


def leased_ids(http: httpx.Client) -> list[str]:
    """Leases everything; the ids in the order of leasing."""
    ids: list[str] = []
    while True:
        request = {"n": 100, "annotator": "ada", "token": f"lease-{len(ids)}"}
        batch = [one["sample_id"] for one in http.post("/v1/queue/lease", json=request).json()["samples"]]
        if not batch:
            return ids
        ids += batch


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_redis_fails_in_mid_traffic(
    start_service: Callable[..., Any], redis: Redis, grey: Grey, fault: signal.Signals
) -> None:
    service = start_service(LOSSCAST_REDIS_URL=f"unix://{redis.socket}", LOSSCAST_REDIS_TIMEOUT_S="0.5")
    with ThreadPoolExecutor(4) as clients:
        accepted = post_lossy(service.http, grey, range(100))
        redis.send(fault)
        during = clients.map(lambda n: post_lossy(service.http, grey, range(n, n + 100)), range(100, 500, 100))
        accepted = accepted.union(*during)
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
def test_every_accepted_sample_survives_kill_minus_9_of_service_and_private_valkey(
    start_service: Callable[..., Any], grey: Grey, tmp_path: Path
) -> None:
    service = start_service()
    accepted: set[str] = set()
    for round_number in range(5):
        accepted |= post_lossy(service.http, grey, range(100 * round_number, 100 * round_number + 100))
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
        for pid in _private_servers(tmp_path):
            os.kill(pid, signal.SIGKILL)
        service.start()
    assert len(accepted) == 500
    service.settled(500)
    assert set(leased_ids(service.http)) == accepted


@pytest.mark.slow
def test_the_end_of_the_service_is_the_end_of_its_valkey(
    start_service: Callable[..., Any], grey: Grey, tmp_path: Path
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        service = start_service()
        post_lossy(service.http, grey, range(3))
        service.settled(3)
        assert _private_servers(tmp_path)
        assert service.stop(number) == 0, service.log
        assert not _private_servers(tmp_path)


def _private_servers(folder: Path) -> list[int]:
    """Server processes whose command line or working directory lies in the test's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            place = (process / "cwd").readlink()
        except OSError:
            continue
        if re.search(r"(valkey|redis)-server", command) and (str(folder) in command or place.is_relative_to(folder)):
            found.append(int(process.name))
    return found
