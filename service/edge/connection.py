"""One client's connection: uvicorn's, with limits on everything but the body.

uvicorn waits without limit for a request to begin and for its headers to end, takes headers and trailers of any size,
and holds any number of pipelined requests. So silent connections could use up the process's open files, and endless
headers or requests its memory. `edge.limits` limits the size of a body, `edge.waiting` its time. uvicorn also sends a
reply in two pieces; here it is one.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0  # for the first bytes of a new connection, and from the first to the last byte of a request's headers
MAX_HEAD_BYTES = 64 * 1024  # not counting the piece in which they begin
MAX_PIPELINED = 32  # requests behind the one that is being answered


class Connection(HttpToolsProtocol):
    _in_request = False  # whether a request has begun and is not complete
    _in_head = False  # whether headers have begun and not ended
    _is_new = False  # whether a request began in the piece that is read now
    _received = 0  # bytes of a request, from its second piece on
    _body = 0  # of them, the bytes of the body
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(cast("asyncio.Transport", _InOnePiece(transport, self.loop)))
        self._restrict()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unlimit()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_request = self._in_head = self._is_new = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise httptools.HttpParserError("too many requests wait on one connection")
        self._in_head = False
        self._unlimit()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_request = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        was_in_request = self._in_request
        self._received += len(data)
        super().data_received(data)
        if self._is_new:
            self._is_new, self._received, self._body = False, 0, 0
            if self._in_head:  # seldom, because headers mostly come in one piece
                self._unlimit()
                self._restrict()
        elif not was_in_request and self._limit is None:  # empty lines, which are no request
            self._restrict()
        # Chunks have bytes that are not of the body, and trailers come after it.
        if self._received > MAX_HEAD_BYTES + 2 * self._body and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def _restrict(self) -> None:
        self._limit = self.loop.call_later(HEAD_S, self.transport.close)

    def _unlimit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _InOnePiece:
    """A transport that keeps the head of a reply for a moment, and sends it together with the body.

    Each piece is a system call that wakes the client. With a small model, sending the head took a tenth of the event
    loop's time.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
