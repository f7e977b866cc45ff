"""The edge of the service, as one plain ASGI layer: it reads each request's `Intake` and sends each error as a reply.

headers read -> key checked -> announced size checked -> application -> reply counted and logged. It is not a
BaseHTTPMiddleware, because that hides a client's disconnect from the handlers.
"""

from collections.abc import Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.headers import read
from service.edge.keys import Keys
from service.edge.limits import check_length, limited
from service.edge.reply import Reply
from service.errors import ServiceError
from service.telemetry import request_ids
from service.telemetry.metrics import Metrics


class Edge:
    def __init__(self, app: ASGIApp, keys: Sequence[str], max_body_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._keys = Keys(keys)
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        intake = read(scope)
        scope.setdefault("state", {}).update(intake=intake, request_id=intake.request_id)
        request_ids.begin(scope)
        reply = Reply(scope, send, intake.request_id, self._metrics)
        try:
            self._keys.check(scope["path"], intake)
            check_length(intake, self._max_body_bytes)
            await self._app(scope, limited(receive, self._max_body_bytes), reply)
        except ServiceError as error:
            await reply.fail(error)
        except ClientDisconnect:
            reply.abandon()
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            internal = ServiceError("an internal error: retry; the log has it under this request id")
            await reply.fail(internal, cause=error)
