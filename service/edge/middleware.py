"""The edge of the service, as one plain ASGI layer: request id, keys, body limit, errors, request count and log.

Whatever is raised inside ends here and becomes one reply. Not a BaseHTTPMiddleware: that hides a
client's disconnect from the handlers.
"""

import logging
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    TooLarge,
    Unauthorized,
)
from service.schemas.predictions import error_reply
from service.telemetry import request_ids
from service.telemetry.metrics import CLIENT_LEFT, Metrics

access = logging.getLogger("service.access")

MAX_REQUEST_ID = 128
CLIENT_CLOSED = 499  # what nginx logs for a client that left; nobody is there to receive it
SERVER_ERROR = 500
DOCS_FILES = "/docs-files"
PREDICTIONS = ("/predict", "/infer")  # how the paths end on which images come
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", "/metrics", "/docs", "/openapi.json")


class Edge:
    def __init__(self, app: ASGIApp, keys: Sequence[str], max_body_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        request_ids.begin(scope)
        reply = _Reply(scope, send, request_id, self._metrics)
        try:
            self._check_key(scope["path"], headers)
            self._check_length(headers)
            await self._app(scope, self._limited(receive), reply)
        except ServiceError as error:
            await reply.fail(error)
        except ClientDisconnect:
            reply.abandon()
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            internal = ServiceError("an internal error: retry; the log has it under this request id")
            await reply.fail(internal, cause=error)

    def _check_key(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        if not self._keys or path in OPEN_PATHS or path.startswith(f"{DOCS_FILES}/"):
            return
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise Unauthorized("a key is needed: send the header `Authorization: Bearer <key>`")
        if not any(secrets.compare_digest(key, known) for known in self._keys):
            raise Forbidden("this key is not known: ask the operator for one of LOSSCAST_API_KEYS")

    def _check_length(self, headers: Mapping[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise BadRequest("Content-Length must be a whole number")
        if int(length) > self._max_body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is over the limit of {self._max_body_bytes} bytes: send a smaller image")


class _Reply:
    """`send` for one request: adds its id, counts it, and can say that it failed, to the log as well."""

    def __init__(self, scope: Scope, send: Send, request_id: str, metrics: Metrics) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id.encode("latin-1")
        self._metrics = metrics
        self._started = False
        self._began = time.perf_counter()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            message["headers"] = [*message["headers"], (b"x-request-id", self._request_id)]
            self.count(message["status"])
        await self._send(message)

    def count(self, status: int) -> None:
        route = self._scope.get("route")  # set by the router; whatever it never saw shares one label
        self._metrics.request(getattr(route, "path", "unrouted"), status)

    def abandon(self) -> None:
        """The client left."""
        self.count(CLIENT_CLOSED)
        self._reject(CLIENT_LEFT)
        self.log(CLIENT_CLOSED, CLIENT_LEFT)

    def log(self, status: int, code: str, error: Exception | None = None, cause: Exception | None = None) -> None:
        """One line. What is said to a client at fault stays out of it: it repeats what came in the request."""
        self._scope["state"]["error_code"] = code  # for its span
        level = logging.ERROR if status == SERVER_ERROR else logging.WARNING if status > SERVER_ERROR else logging.INFO
        fields = {
            "status": status,
            "code": code,
            "method": self._scope["method"],
            "route": getattr(self._scope.get("route"), "path", "unrouted"),
            "ms": round(1e3 * (time.perf_counter() - self._began), 1),
        }
        words = [error] if status >= SERVER_ERROR else []
        access.log(level, "request failed: %s" if words else "request failed", *words, extra=fields, exc_info=cause)

    async def fail(self, error: ServiceError, cause: Exception | None = None) -> None:
        self._reject(error.code)
        self.log(error.status, error.code, error, cause)
        if self._started:
            raise error
        body, headers = error_reply(error, self._scope["state"]["request_id"], self._scope["path"])
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        raw.append((b"content-length", b"%d" % len(body)))
        await self({"type": "http.response.start", "status": error.status, "headers": raw})
        await self({"type": "http.response.body", "body": body})

    def _reject(self, reason: str) -> None:
        if self._scope["method"] == "POST" and self._scope["path"].endswith(PREDICTIONS):
            self._metrics.rejected(reason)


async def translate(_: Request, error: Exception) -> NoReturn:
    """FastAPI's own errors in our words: raised again as ServiceErrors."""
    raise _as_service_error(error) from error


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error.__cause__, ServiceError):  # raised while FastAPI read the body, which it wraps
        return error.__cause__
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; see /docs")
    kinds: dict[int, type[ServiceError]] = {404: NotFound, 405: MethodNotAllowed}
    status = getattr(error, "status_code", 400)
    return kinds.get(status, BadRequest)(f"{getattr(error, 'detail', error)}: see /docs for what there is")


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    if 0 < len(given) <= MAX_REQUEST_ID and given.isprintable():
        return given
    return f"{random.getrandbits(128):032x}"
