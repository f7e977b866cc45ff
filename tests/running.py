"""Real processes for tests: `losscast serve` on a free port with a state folder of its own, and a Redis server."""

import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import stamina

from service.redis.private_valkey import server_program
from tests.forking import Forked

START_S = 30


class Service:
    """One `losscast serve` process; `start` again after a kill finds the same state."""

    def __init__(self, store: Path, folder: Path, **environment: str) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")},
            "LOSSCAST_BUNDLES": str(store),
            "LOSSCAST_MODEL": "tiny",
            "LOSSCAST_STATE": str(folder / "state"),
            "LOSSCAST_PORT": "0",
            "LOSSCAST_AUDIT_RATE": "0",  # tests of the audit lane set it
            "LOSSCAST_MAX_BATCH": "8",  # measuring these takes a second
            "LOSSCAST_WORKERS": "2",
            "COLUMNS": "200",
            **environment,
        }
        self.store = store
        self._log = folder / "service.log"
        self.process: Forked | None = None
        self.http = httpx.Client()

    def start(self) -> None:
        self._log.unlink(missing_ok=True)
        self.process = Forked(self._environment, self._log)
        self.http = httpx.Client(base_url=self._url(), timeout=30)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal. Returns the exit code."""
        assert self.process is not None
        self.http.close()
        self.process.send_signal(number)
        return self.process.wait(START_S)

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def peak_bytes(self) -> int:
        """The most memory that the process has ever held."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def stats(self) -> dict[str, int]:
        reply = self.http.get("/v1/queue/stats")
        assert reply.status_code == 200, reply.text
        counts: dict[str, int] = reply.json()
        return counts

    def settled(self, accepted: int) -> dict[str, int]:
        """The queue's counts, once that many samples have come through the journal."""
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.2):
            with attempt:
                stats = self.stats()
                assert stats["accepted"] == accepted, self.log
        return stats

    def _url(self) -> str:
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=START_S, wait_max=0.1):
            with attempt:
                found = re.search(r"on (http://\S+)", self.log)
                assert found, self.log
        return found.group(1) if found else ""


class Redis:
    """A server of the test's own, on a unix socket, with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--appendonly", "yes", "--dir", str(self._folder)]
        self.process = subprocess.Popen([server_program(), *options], stdout=subprocess.DEVNULL)
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
            with attempt:
                assert self.socket.exists()

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(10)
            self.socket.unlink()
