"""One client's connection, as uvicorn has it, with bounds on what is no body.

uvicorn waits for ever for a request to begin and for its headers to end, takes headers and trailers of any size, and
queues any number of pipelined requests: connections that send nothing would use up the process's files, and one that
sends headers or requests without end its memory. The body itself is bounded, in size and time, by
`service.edge.middleware` and `service.edge.waiting`. uvicorn sends a reply in two pieces; here it is one.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0  # for a new connection's first bytes, and for a request's headers from the first to the last
MAX_HEAD_BYTES = 64 * 1024  # beside the piece in which they begin
MAX_PIPELINED = 32  # requests behind the one that is being answered


class Connection(HttpToolsProtocol):
    _in_request = False  # whether one has begun and not come in full
    _in_head = False  # whether headers have begun and not ended
    _is_new = False  # whether a request began in the piece that is being read
    _received = 0  # bytes of a request, from its second piece on
    _body = 0  # of them
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
            if self._in_head:  # seldom: headers come in one piece
                self._unlimit()
                self._restrict()
        elif not was_in_request and self._limit is None:  # empty lines, which begin nothing
            self._restrict()
        # Chunks bring bytes of their own beside the body's, and trailers come behind it.
        if self._received > MAX_HEAD_BYTES + 2 * self._body and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def _restrict(self) -> None:
        self._limit = self.loop.call_later(HEAD_S, self.transport.close)

    def _unlimit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _InOnePiece:
    """A transport that sends the head of a reply together with what follows at once, or by itself a moment later.

    Each piece is a call of the system that wakes the client: on a small model the first was a tenth of the event loop.
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
