"""Connections that do not become requests, by real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.edge import connection
from service.edge.connection import MAX_HEAD_BYTES, MAX_PIPELINED, Connection

HEAD = b"POST / HTTP/1.1\r\nHost: losscast\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PATIENCE_S = 10.0  # of the test


async def answer(_: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def client() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(answer, http=Connection, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """All bytes until the server closes."""
    return await asyncio.wait_for(reader.read(), PATIENCE_S)


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n", b"G", HEAD], ids=["nothing", "an empty line", "one byte", "half a head"]
)
async def test_a_connection_that_does_not_become_a_request_is_closed(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.05)
    async with client() as (reader, writer):
        writer.write(sent)
        assert await everything(reader) == b""


async def test_an_empty_line_after_a_reply_does_not_keep_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.5)
    async with client() as (reader, writer):
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"ok"), PATIENCE_S)
        writer.write(b"\r\n")  # ends uvicorn's own limit on idle connections
        assert await everything(reader) == b""


@pytest.mark.parametrize("before", [HEAD, HEAD + CHUNKED + b"3\r\nabc\r\n0\r\n"], ids=["headers", "trailers"])
async def test_endless_headers_and_trailers_are_refused(before: bytes) -> None:
    async with client() as (_, writer):
        writer.write(before)
        with pytest.raises(ConnectionError):
            await flood(writer, b"X-More: " + 8192 * b"x" + b"\r\n")


async def flood(writer: asyncio.StreamWriter, line: bytes) -> None:
    """Returns when the server has taken 100 times as much as allowed."""
    for _ in range(100 * MAX_HEAD_BYTES // len(line)):
        writer.write(line)
        await writer.drain()
        await asyncio.sleep(0)


async def test_pipelined_requests_are_answered_up_to_a_limit() -> None:
    request = HEAD + b"Content-Length: 0\r\n\r\n"
    async with client() as (reader, writer):
        writer.write(MAX_PIPELINED * request)
        for _ in range(MAX_PIPELINED):
            assert (await asyncio.wait_for(reader.readuntil(b"ok"), PATIENCE_S)).startswith(b"HTTP/1.1 200")
        writer.write(10 * MAX_PIPELINED * request)
        replies = await everything(reader)
        assert replies.count(b"HTTP/1.1 200") <= MAX_PIPELINED + 1
        assert b"HTTP/1.1 400" in replies


@pytest.mark.parametrize("piece", [1 << 20, 16])
async def test_a_body_in_chunks_of_any_size_is_read(piece: int) -> None:
    chunk = b"%x\r\n" % piece + piece * b"x" + b"\r\n"
    async with client() as (reader, writer):
        for _ in range(2):
            writer.write(HEAD + CHUNKED)
            for _ in range((1 << 20) // piece):
                writer.write(chunk)
            writer.write(b"0\r\nX-Trailer: yes\r\n\r\n")
            await writer.drain()
            assert (await asyncio.wait_for(reader.readuntil(b"ok"), PATIENCE_S)).startswith(b"HTTP/1.1 200")


async def test_headers_in_pieces_are_read_and_the_time_for_them_ends_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with client() as (reader, writer):
        monkeypatch.setattr(connection, "HEAD_S", 0.5)
        body = b"Content-Length: 3\r\n\r\nabc"
        for piece in (HEAD, b"X-A: b\r\n", body, HEAD + body):  # the second request on the same connection
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        for _ in range(2):
            reply = await asyncio.wait_for(reader.readuntil(b"ok"), PATIENCE_S)
            assert reply.startswith(b"HTTP/1.1 200")
        writer.write(HEAD + b"Content-Length: 3\r\n\r\na")  # a body may take longer
        await writer.drain()
        await asyncio.sleep(2 * connection.HEAD_S)
        writer.write(b"bc")
        assert (await asyncio.wait_for(reader.readuntil(b"ok"), PATIENCE_S)).startswith(b"HTTP/1.1 200")


async def test_a_reply_comes_in_one_piece() -> None:
    async with client() as (reader, writer):
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        first = await asyncio.wait_for(reader.read(1 << 16), PATIENCE_S)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\nok")


async def test_a_reply_without_a_body_is_not_held_back() -> None:
    async with client() as (reader, writer):
        writer.write(b"HEAD / HTTP/1.1\r\nHost: losscast\r\n\r\n")
        first = await asyncio.wait_for(reader.read(1 << 16), PATIENCE_S)
    assert first.endswith(b"\r\n\r\n")
