"""Shared by both clients: how a request is sent, how its reply is read, and when it is tried again.

`service.client.requests` builds the requests; each client sends them in its own way of waiting. Pure, but for
`RetryHook`, which reads the clock.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar, get_args

import httpx
from pydantic import ValidationError

P = ParamSpec("P")
T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 30.0  # for one try
RETRY_S = 30.0
RETRY_PAUSE_MAX_S = 1.0
LEASE_S = 120.0  # of `leased`: short, because it is extended; the samples of a client that dies come back soon
EXTENSIONS = 6  # tries to extend a lease within its length; each ends before the next begins, even without an answer
BUSY = (429, 503)


class ClientError(Exception):
    """The service refused or could not be reached; the message is one line that says what to do."""

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status  # None: there was no answer
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class ApiRequest(Generic[T]):
    """One request and how its reply is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0  # that the service may take longer for it, because the request asks it to wait


class RetryHook:
    """Tells stamina when to try again: without an answer, on 429 and on 503, for a limited time.

    Every request may be repeated: the service knows predictions by their content, the queue's requests by their token,
    and changes of the live version by the version that they expect. Each request needs a hook of its own. limit_s: 0
    never tries again.
    """

    def __init__(self, limit_s: float) -> None:
        self._until = time.monotonic() + limit_s

    def __call__(self, error: Exception) -> bool | float:
        """False: give up. True: wait as stamina does. A number: the seconds that the service asked to wait."""
        if not isinstance(error, ClientError) or (error.status is not None and error.status not in BUSY):
            return False
        wait_s = error.retry_after_s or 0.0
        if time.monotonic() + wait_s >= self._until:
            return False
        return wait_s or True


def build(builder: Callable[P, ApiRequest[T]], *args: P.args, **kwargs: P.kwargs) -> ApiRequest[T]:
    """The request that a function of `service.client.requests` builds. Raises ClientError for unusable arguments."""
    try:
        return builder(*args, **kwargs)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ClientError(f"{where}: {first['msg']}" if where else first["msg"]) from error


def method_of(builder: Callable[P, ApiRequest[T]]) -> Callable[[Method], Method]:
    """Gives a client's method the name, documentation and parameters of `builder`. The method returns the reply."""

    def decorate(method: Method) -> Method:
        own = inspect.signature(builder)
        parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *own.parameters.values()]
        (reply,) = get_args(own.return_annotation)
        wraps(builder)(method)
        method.__annotations__ = {**builder.__annotations__, "return": reply}
        vars(method)["__signature__"] = own.replace(parameters=parameters, return_annotation=reply)
        return method

    return decorate


def connection(url: str, api_key: str | None) -> dict[str, Any]:
    """Arguments of an httpx client. Raises ClientError."""
    if not url.startswith(("http://", "https://")):
        raise ClientError(f"{url!r} is not the address of a service: write it like http://127.0.0.1:8000")
    return {"base_url": url, "headers": {"authorization": f"Bearer {api_key}"} if api_key else {}}


def arguments(request: ApiRequest[T]) -> dict[str, Any]:
    """Arguments of an httpx client's `request`."""
    return {
        "method": request.method,
        "url": request.path,
        "content": request.content,
        "params": dict(request.params),
        "headers": dict(request.headers),
    }


def no_answer(url: httpx.URL, error: httpx.TransportError) -> ClientError:
    return ClientError(f"no answer from {url}: {error or type(error).__name__}; is `losscast serve` running there?")


def read(request: ApiRequest[T], response: httpx.Response) -> T:
    """The reply to a request. Raises ClientError with the service's message, or when this is no Losscast service."""
    if response.is_error:
        raise ClientError(_message(response), response.status_code, _retry_after_s(response))
    try:
        return request.read(response)
    except (ValueError, KeyError) as error:
        raise ClientError(
            f"{response.url} gave an unexpected answer: is this a Losscast service of the same version?",
            response.status_code,
        ) from error


def _message(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code} from {response.url}: is this a Losscast service?"


def _retry_after_s(response: httpx.Response) -> float | None:
    """None when the header is missing or a date; our service never sends a date."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else None
