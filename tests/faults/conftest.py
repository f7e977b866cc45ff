"""Real processes: `losscast serve` on a free port with a state folder of its own."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running import Redis, Service


@pytest.fixture
def start_service(
    tiny_store: Path, tmp_path: Path, servers_in: Callable[[Path], list[int]]
) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def start(**environment: str) -> Service:
        service = Service(tiny_store, tmp_path, **environment)
        services.append(service)
        service.start()
        return service

    yield start
    for service in services:
        if service.process is not None and service.process.poll() is None:
            service.stop()
    for server in servers_in(tmp_path):  # a service that ended by a fault leaves its own to the next start
        os.kill(server, signal.SIGKILL)


@pytest.fixture
def servers_in() -> Callable[[Path], list[int]]:
    """Process ids of Valkey or Redis servers whose command line names the folder or that work in it."""

    def find(folder: Path) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                place = (process / "cwd").readlink()
            except OSError:
                continue
            if re.search(r"(valkey|redis)-server", command) and (
                str(folder) in command or place.is_relative_to(folder)
            ):
                found.append(int(process.name))
        return found

    return find


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
