"""A server as a tree of processes: starts it, waits until it answers, measures what it uses, and ends it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S, STOP_S, POLL_S = 120.0, 20.0, 0.05
LOG_LINES = 15
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class NotServing(RuntimeError):  # noqa: N818 - it says what is the matter
    """The server did not come up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    port: int

    def cpu_s(self) -> float:
        """Processor seconds of the process and its descendants, those that ended included."""
        return sum(_ticks(pid) for pid in tree(self.pid)) / TICKS_PER_S

    def resident_mb(self) -> float:
        """Resident memory of the process alone."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def memory_mb(self) -> float:
        """Resident memory of the tree. Memory that processes share is counted once (PSS)."""
        return sum(_pss_kb(pid) for pid in tree(self.pid)) / 1024


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], log: Path, port: int, probe: bytes
) -> Iterator[Server]:
    """Runs the command until the block ends. probe: a request that is answered with 200 once the server is ready.

    Raises NotServing.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the benchmark's own commands
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(process, port, probe, log)
        yield Server(process.pid, port)
    finally:
        _stop(process)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def tree(root: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(_fields(int(entry.name))[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:  # the list grows during the loop
        found += children.get(pid, [])
    return found


def _wait(process: subprocess.Popen[bytes], port: int, probe: bytes, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            socket.create_connection(("127.0.0.1", port)) as s,
        ):
            s.settimeout(START_S)
            s.sendall(probe)
            if s.recv(64).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(POLL_S)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    raise NotServing(f"{' '.join(process.args if isinstance(process.args, list) else [])} does not answer:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, in order if that works, and all that it started."""
    family = tree(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in family[1:]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _ticks(pid: int) -> int:
    try:
        return sum(map(int, _fields(pid)[11:15]))  # user and system, its own and of children that it waited for
    except OSError:
        return 0


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
