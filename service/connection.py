"""One client's connection, as uvicorn has it, with bounds on what comes before a request is one.

uvicorn waits for ever for a request to begin and for its headers to end, and takes headers of any size:
connections that send nothing would use up the process's files, and one that sends headers without end its
memory. From the end of the headers on, `service.middleware` and `service.api.waiting` bound size and time.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0  # for a new connection's first bytes, and for a request's headers from the first to the last
MAX_HEAD_BYTES = 64 * 1024  # beside the pieces in which they begin and end


class Connection(HttpToolsProtocol):
    _in_head = False  # whether headers have begun and not ended
    _head_bytes = 0
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._limit = self.loop.call_later(HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unlimit()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if not self._in_head:  # all but always: headers come in one piece
            self._unlimit()
        elif not was_in_head:
            self._unlimit()
            self._limit = self.loop.call_later(HEAD_S, self.transport.close)
        else:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too long.")

    def _unlimit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
