"""Real processes that can be killed: a Redis (or Valkey) of the campaign's own, and `losscast serve`."""

import itertools
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, cast

import httpx
import redis
import stamina

from service.redis.private_valkey import server_program
from tests.forking import Forked

START_S = 60.0
_ADDRESSES = itertools.count(1)


class RedisServer:
    """On a unix socket in `folder`, with an append-only file there."""

    def __init__(self, folder: Path, appendfsync: str) -> None:
        folder.mkdir()
        self._folder, self._appendfsync = folder, appendfsync
        self.socket = folder / "redis.sock"
        self.client = connect(self.socket)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        place = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder), "--save", ""]
        durability = ["--appendonly", "yes", "--appendfsync", self._appendfsync, "--maxmemory-policy", "noeviction"]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([server_program(), *place, *durability], stdout=log, stderr=log)
        for attempt in stamina.retry_context(on=redis.RedisError, attempts=None, timeout=START_S, wait_max=0.1):
            with attempt:
                self.client.ping()

    def send(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait(10)
            self._process = None
            self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        self.client.close()


class Replica:
    """One `losscast serve` on a port that stays the same over its lives, with a state folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self.state = Path(environment.get("LOSSCAST_STATE", folder / "state"))
        host = _own_address()
        port = _free_port(host)
        self.url = f"http://{host}:{port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")},
            "LOSSCAST_MODEL": "tiny",
            "LOSSCAST_HOST": host,
            "LOSSCAST_PORT": str(port),
            "LOSSCAST_STATE": str(self.state),
            **environment,
        }
        self._log = folder / "service.log"
        self._process: Forked | None = None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Does not wait for it to be ready."""
        self._process = Forked(self._environment, self._log)

    def start(self) -> None:
        self.launch()
        for attempt in stamina.retry_context(on=httpx.TransportError, attempts=None, timeout=START_S, wait_max=0.1):
            with attempt:
                if not self.is_alive:
                    raise SystemExit(f"the service does not start: {self.log_tail()}")
                httpx.get(f"{self.url}/v1/models").raise_for_status()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Sends the signal and waits for the end. Raises RuntimeError when it had died by itself."""
        if self._process is None:
            return
        if not self.is_alive:
            raise RuntimeError(f"the service died by itself: {self.log_tail()}")
        self._process.send_signal(number)
        self._process.wait(START_S)
        self._process = None

    def log_tail(self) -> str:
        return self._log.read_bytes()[-2000:].decode(errors="replace")


def connect(path: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(path), decode_responses=True, socket_timeout=20)


def process_id(client: redis.Redis) -> int:
    return int(cast("Any", client.info("server"))["process_id"])


def _own_address() -> str:
    """A loopback address that no other replica has: between two lives nobody else may take its port."""
    number = next(_ADDRESSES)
    return f"127.{1 + os.getpid() // 200 % 200}.{1 + os.getpid() % 200}.{number}"


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
