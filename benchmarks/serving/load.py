"""The load generator: one process with plain sockets, the same for every server. A program that prints JSON.

python -m benchmarks.serving.load PORT PATH CONTENT_TYPE IMAGES SECONDS clients=N | rate=R

`clients=N` is a closed loop: each of N connections sends its next image when it has its reply. `rate=R` is an open one:
arrivals are a Poisson process, and a latency starts when the image was due, even if it could not be sent then. Every
body is an image with eight different bytes behind its end, so that no two bodies are equal.
"""

import itertools
import json
import random
import re
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

CONNECTIONS = 64  # of the open loop
BUFFER_BYTES = 512 * 1024  # of a socket: a whole request fits, so that sending never waits
GIVE_UP_S = 20.0  # without any reply
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
OK = b"HTTP/1.1 200"


class Failed(RuntimeError):  # noqa: N818 - it says what happened
    """The server did not answer, or answered with another status than 200."""


def read_images(folder: Path) -> list[bytes]:
    """The files of a folder, in the order of their names."""
    return [file.read_bytes() for file in sorted(folder.iterdir())]


class Connection:
    """One request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answer = b""
        self._length = 0
        self.due = 0.0  # when the current request was to be sent

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        self.due, self._answer, self._length = due, b"", 0
        self._socket.sendall(request)

    def receive(self) -> bool:
        """Reads the bytes that have come. Returns whether the reply is complete. Raises Failed."""
        data = self._socket.recv(1 << 18)
        self._answer = self._answer + data if self._answer else data
        if not self._length:
            head = self._answer.find(b"\r\n\r\n")
            if head < 0 and data:
                return False
            length = LENGTH.search(self._answer, 0, head + 2)
            if not self._answer.startswith(OK) or length is None:
                raise Failed(f"the server answered {self._answer[:300]!r}")
            self._length = head + 4 + int(length.group(1))
        return len(self._answer) >= self._length


def requests(images: Sequence[bytes], path: str, content_type: str, seed: int) -> Iterator[bytes]:
    """Any number of requests, no two of them equal."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: "
    ready = [f"{head}{len(image) + 8}\r\n\r\n".encode() + image for image in images]
    number = itertools.count(time.time_ns())
    random.Random(seed).shuffle(ready)
    return (request + next(number).to_bytes(8, "big") for request in itertools.cycle(ready))


def closed(port: int, waiting: Iterator[bytes], clients: int, seconds: float) -> tuple[list[float], float]:
    """Latencies of all requests, and replies per second until the time was up."""
    poll, connections = _connect(port, clients)
    took, under_way = [], clients
    started = time.perf_counter()
    until, in_time = started + seconds, 0
    for connection in connections.values():
        connection.send(next(waiting), time.perf_counter())
    while under_way:
        for connection in _ready(poll, connections):
            if connection.receive():
                now = time.perf_counter()
                took.append(now - connection.due)
                if now < until:
                    in_time += 1
                    connection.send(next(waiting), now)
                else:
                    under_way -= 1
    return took, in_time / seconds


def opened(port: int, waiting: Iterator[bytes], rate: float, seconds: float, seed: int) -> tuple[list[float], float]:
    """Latencies and replies per second under Poisson arrivals."""
    poll, connections = _connect(port, CONNECTIONS)
    line, rng = Line(connections.values()), random.Random(seed)
    gaps = (rng.expovariate(rate) for _ in range(max(round(rate * seconds), 1)))
    started = time.perf_counter() + 0.1
    arrivals = [started + ahead for ahead in itertools.accumulate(gaps)]

    def arrive() -> None:
        for due in arrivals:
            time.sleep(max(due - time.perf_counter(), 0))
            if connection := line.take(due):
                connection.send(next(waiting), due)

    threading.Thread(target=arrive, daemon=True).start()
    took: list[float] = []
    while len(took) < len(arrivals):
        for connection in _ready(poll, connections):
            if connection.receive():
                took.append(time.perf_counter() - connection.due)
                if late := line.give_back(connection):
                    connection.send(next(waiting), late)
    return took, len(arrivals) / seconds


class Line:
    """Connections that wait for an arrival, or arrivals that wait for a connection."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._idle, self._overdue = deque(connections), deque[float]()
        self._lock = threading.Lock()

    def take(self, due: float) -> Connection | None:
        """A connection for an arrival; None: the arrival waits."""
        with self._lock:
            if self._idle:
                return self._idle.popleft()
            self._overdue.append(due)
            return None

    def give_back(self, connection: Connection) -> float | None:
        """When the arrival was due that the connection serves at once; None: the connection waits."""
        with self._lock:
            if self._overdue:
                return self._overdue.popleft()
            self._idle.append(connection)
            return None


def _connect(port: int, number: int) -> tuple[select.epoll, dict[int, Connection]]:
    poll, connections = select.epoll(), {}
    for _ in range(number):
        connection = Connection(port)
        connections[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    return poll, connections


def _ready(poll: select.epoll, connections: dict[int, Connection]) -> list[Connection]:
    events = poll.poll(GIVE_UP_S)
    if not events:
        raise Failed(f"no reply within {GIVE_UP_S:g} s")
    return [connections[number] for number, _ in events]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def main() -> None:
    port, path, content_type, images, seconds, load = sys.argv[1:]
    kind, _, amount = load.partition("=")
    seed = time.time_ns()
    waiting = requests(read_images(Path(images)), path, content_type, seed)
    sys.setswitchinterval(1e-4)  # the thread that sends must not wait for the one that receives
    if kind == "clients":
        took, per_s = closed(int(port), waiting, int(amount), float(seconds))
    else:
        took, per_s = opened(int(port), waiting, float(amount), float(seconds), seed)
    took.sort()
    quantiles = {"p50_ms": _quantile(took, 0.5) * 1e3, "p99_ms": _quantile(took, 0.99) * 1e3}
    client = time.process_time() / len(took) * 1e3
    print(json.dumps({"requests": len(took), "per_s": per_s, **quantiles, "client_cpu_ms": client}))


if __name__ == "__main__":
    main()
