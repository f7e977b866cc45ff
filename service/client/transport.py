"""One request and how its reply is read; what both clients do with it, each in its own way of waiting. Pure.

`service.client.requests` makes them.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar, get_args

import httpx
from pydantic import ValidationError

P = ParamSpec("P")
T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])


class ClientError(Exception):
    """The service refused or could not be reached; the message is one line that says what to do."""

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status  # None: there was no answer
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def build(call: Callable[P, Call[T]], *args: P.args, **kwargs: P.kwargs) -> Call[T]:
    """One of the calls above, made. Raises ClientError when it cannot be: what is refused here is not sent."""
    try:
        return call(*args, **kwargs)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ClientError(f"{where}: {first['msg']}" if where else first["msg"]) from error


def method_of(call: Callable[P, Call[T]]) -> Callable[[Method], Method]:
    """Gives a client's method name, documentation and parameters of the call that it sends; it returns the reply."""

    def decorate(method: Method) -> Method:
        own = inspect.signature(call)
        parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *own.parameters.values()]
        (reply,) = get_args(own.return_annotation)
        wraps(call)(method)
        method.__annotations__ = {**call.__annotations__, "return": reply}
        vars(method)["__signature__"] = own.replace(parameters=parameters, return_annotation=reply)
        return method

    return decorate


def connection(url: str, api_key: str | None) -> dict[str, Any]:
    """Arguments of an httpx client. Raises ClientError."""
    if not url.startswith(("http://", "https://")):
        raise ClientError(f"{url!r} is not the address of a service: write it like http://127.0.0.1:8000")
    return {"base_url": url, "headers": {"authorization": f"Bearer {api_key}"} if api_key else {}}


def arguments(call: Call[T]) -> dict[str, Any]:
    """Arguments of an httpx client's `request`."""
    return {
        "method": call.method,
        "url": call.path,
        "content": call.content,
        "params": dict(call.params),
        "headers": dict(call.headers),
    }


def no_answer(url: httpx.URL, error: httpx.TransportError) -> ClientError:
    return ClientError(f"no answer from {url}: {error or type(error).__name__}; is `losscast serve` running there?")


def read(call: Call[T], response: httpx.Response) -> T:
    """What the call asked for. Raises ClientError with what the service said, or when it is no Losscast service."""
    if response.is_error:
        raise ClientError(_message(response), response.status_code, _retry_after_s(response))
    try:
        return call.read(response)
    except (ValueError, KeyError) as error:
        raise ClientError(
            f"{response.url} gave no such answer: is this a Losscast service of the same version?", response.status_code
        ) from error


def _message(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code} from {response.url}: is this a Losscast service?"


def _retry_after_s(response: httpx.Response) -> float | None:
    """None when there is none; it may also be a date, which our service never sends."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else None
