"""The ids of the request that a task works on, in a context variable. Log lines look them up when they are written.

edge -> `begin` -> everything that is awaited or started for the request -> `ids`, for `service.telemetry.logs`.
"""

import re
from collections.abc import Iterable
from contextvars import ContextVar

from starlette.types import Scope

TRACE_ID = "trace_id"  # key in scope["state"] of a traced request
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, version 00
_SCOPE: ContextVar[Scope | None] = ContextVar("scope", default=None)


def begin(scope: Scope) -> None:
    """From now on this task, and every task that it starts, works on this ASGI request."""
    _SCOPE.set(scope)


def ids() -> dict[str, str]:
    """request_id, and trace_id if the request is traced or has a valid `traceparent`. Empty outside requests."""
    scope = _SCOPE.get()
    if scope is None:
        return {}
    state = scope.get("state", {})
    trace_id = state.get(TRACE_ID) or _trace_id(scope["headers"])
    found = {"request_id": state.get("request_id"), "trace_id": trace_id}
    return {name: value for name, value in found.items() if value}


def _trace_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    given = dict(headers).get(b"traceparent", b"").strip()
    match = _TRACEPARENT.fullmatch(given)
    if match is None or given.startswith(b"ff") or not int(match[1], 16):
        return None
    return match[1].decode()
