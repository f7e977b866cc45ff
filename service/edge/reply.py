"""The reply to one request: counted, with the request's id, and, when the request fails, logged."""

import logging
import time

from starlette.types import Message, Scope, Send

from service.errors import ServiceError
from service.schemas.predictions import error_reply
from service.telemetry.metrics import CLIENT_LEFT, Metrics

access = logging.getLogger("service.access")

CLIENT_CLOSED = 499  # as nginx logs it when a client has left; nobody receives it
SERVER_ERROR = 500
PREDICTIONS = ("/predict", "/infer")  # the ends of the paths to which images are posted


class Reply:
    """The `send` of one request. `fail` and `abandon` end the request in another way."""

    def __init__(self, scope: Scope, send: Send, request_id: str, metrics: Metrics) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._metrics = metrics
        self._started = False
        self._began = time.perf_counter()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            message["headers"] = [*message["headers"], (b"x-request-id", self._request_id.encode("latin-1"))]
            self._count(message["status"])
        await self._send(message)

    async def fail(self, error: ServiceError, cause: Exception | None = None) -> None:
        """Sends the error, or raises it when the reply has begun. cause: logged with its traceback."""
        self._reject(error.code)
        self._log(error.status, error.code, error, cause)
        if self._started:
            raise error
        body, headers = error_reply(error, self._request_id, self._scope["path"])
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        raw.append((b"content-length", b"%d" % len(body)))
        await self({"type": "http.response.start", "status": error.status, "headers": raw})
        await self({"type": "http.response.body", "body": body})

    def abandon(self) -> None:
        """The client has left: nothing is sent."""
        self._count(CLIENT_CLOSED)
        self._reject(CLIENT_LEFT)
        self._log(CLIENT_CLOSED, CLIENT_LEFT)

    def _count(self, status: int) -> None:
        self._metrics.request(self._route, status)

    def _reject(self, reason: str) -> None:
        if self._scope["method"] == "POST" and self._scope["path"].endswith(PREDICTIONS):
            self._metrics.rejected(reason)

    def _log(self, status: int, code: str, error: Exception | None = None, cause: Exception | None = None) -> None:
        """Logs one line. A message for a client at fault stays out of it, because it repeats parts of the request."""
        self._scope["state"]["error_code"] = code  # for the request's span
        level = logging.ERROR if status == SERVER_ERROR else logging.WARNING if status > SERVER_ERROR else logging.INFO
        fields = {
            "status": status,
            "code": code,
            "method": self._scope["method"],
            "route": self._route,
            "ms": round(1e3 * (time.perf_counter() - self._began), 1),
        }
        words = [error] if status >= SERVER_ERROR else []
        access.log(level, "request failed: %s" if words else "request failed", *words, extra=fields, exc_info=cause)

    @property
    def _route(self) -> str:
        """The path with its parameters' names. The router sets it; requests that it has not seen share one name."""
        return getattr(self._scope.get("route"), "path", "unrouted")
