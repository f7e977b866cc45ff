"""The moment when a put counts as durable: `settle` on a server whose disk is simulated.

The server speaks just enough RESP for INFO. Its clock is that of the test's event loop. So an fsync that starts a
second from now starts before a wait of two seconds ends, even on a slow machine.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest
import pytest_asyncio

from service.errors import Unavailable
from service.labelling.queue import scripts
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.scripts import Scripts
from service.redis.server import RedisServer

FSYNC_AFTER_S = 1.0  # at most this long after a write, while no other is under way, everysec starts one
LOOKS = 3  # an fsync ends when it was seen under way that often

Fields = dict[str, str]
Settle = Callable[[], Awaitable[None]]


class Disk:
    """The successive replies of INFO, after a write that came just before the first of them."""

    def __init__(self, under_way_s: float = 0.0) -> None:
        self.is_durable = False
        self._older_ends_s = under_way_s  # an fsync from before the write, which does not cover it
        self._starts_s: float | None = None
        self._looks_left = LOOKS

    def look(self) -> Fields:
        now_s = asyncio.get_running_loop().time()
        if self._starts_s is None:
            self._older_ends_s += now_s
            self._starts_s = self._older_ends_s + FSYNC_AFTER_S
        is_pending = now_s < self._older_ends_s or (now_s >= self._starts_s and self._looks_left > 0)
        if now_s >= self._starts_s:
            self._looks_left -= 1
            self.is_durable = self._looks_left < 0
        return {"aof_last_write_status": "ok", "aof_pending_bio_fsync": str(int(is_pending)), "aof_buffer_length": "0"}


class Server:
    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.persistence: Callable[[], Fields] = dict
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await _command(reader):
            writer.write(self._reply(command))
            await writer.drain()
        writer.close()

    def _reply(self, command: list[bytes]) -> bytes:
        match [part.upper() for part in command]:
            case [b"INFO", b"PERSISTENCE"]:
                return _bulk(self.persistence())
            case [b"INFO", _]:
                return _bulk({"cluster_enabled": "0"})
            case [b"HELLO", *_]:
                return b"%1\r\n+proto\r\n:3\r\n"
        return b"+OK\r\n"


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    if not (head := await reader.readline()):
        return []
    parts = []
    for _ in range(int(head[1:])):
        length = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(length + 2))[:-2])
    return parts


def _bulk(fields: Fields) -> bytes:
    text = "".join(f"{name}:{value}\r\n" for name, value in fields.items()).encode()
    return b"$%d\r\n%s\r\n" % (len(text), text)


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path / "s.sock") as made:
        yield made


@pytest_asyncio.fixture
async def settle(server: Server) -> AsyncIterator[Settle]:
    redis = RedisServer.open(str(server.socket), 5.0)
    yield lambda: Scripts(redis, QueuePolicy()).settle(["m"])
    await redis.close()


async def test_an_fsync_that_has_not_started_yet_is_waited_for(server: Server, settle: Settle) -> None:
    disk = Disk()
    server.persistence = disk.look
    await settle()
    assert disk.is_durable


async def test_an_fsync_from_before_the_write_does_not_count(server: Server, settle: Settle) -> None:
    disk = Disk(under_way_s=scripts.GRACE_S + 0.2)
    server.persistence = disk.look
    await settle()
    assert disk.is_durable


async def test_writes_that_are_not_in_the_file_yet_are_waited_for(
    server: Server, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "GRACE_S", 0.0)
    lengths = iter(["9", "9", "0", "9", "0"])
    server.persistence = lambda: {"aof_buffer_length": next(lengths)}
    await settle()
    assert list(lengths) == []


async def test_a_disk_that_does_not_get_there_is_unavailable(
    server: Server, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "SETTLE_TIMEOUT_S", 0.1)
    server.persistence = lambda: {"aof_pending_bio_fsync": "1"}
    with pytest.raises(Unavailable, match="does not get its writes to disk"):
        await settle()


async def test_a_file_that_cannot_be_written_is_unavailable(server: Server, settle: Settle) -> None:
    server.persistence = lambda: {"aof_last_write_status": "err"}
    with pytest.raises(Unavailable, match="cannot write its append-only file"):
        await settle()
