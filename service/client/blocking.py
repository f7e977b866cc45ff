"""LosscastClient: the service from Python. Used by the command line and by users.

What can be asked is in `service.client.requests`; this sends it, tries again, and keeps leases alive. The same
for asyncio is `service.client.asynchronous`.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx
import stamina

from service.client import requests as calls
from service.client import transport as sending
from service.client.patience import Patience
from service.client.transport import Call, ClientError
from service.schemas.labelling import LabelLine, LeasedSample

__all__ = ["DEFAULT_URL", "ClientError", "LosscastClient"]

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 30.0  # for one try
RETRY_S = 30.0
TRIES = 6  # to extend a lease, in one length of it; each ends before the next begins, also when nothing answers
LEAVE_S = 1.0  # that leaving `leased` may wait for a try under way
LEASE_S = 120.0  # with `leased`: short, for it is extended, and whatever a dead client held comes back soon


def _sends(build: Callable[P, Call[T]]) -> Callable[Concatenate["LosscastClient", P], T]:
    """A method that sends the call which `build` makes; its parameters are those of `build`."""

    @sending.method_of(build)
    def method(self: "LosscastClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(sending.build(build, *args, **kwargs))

    return method


class LosscastClient:
    """Talks to one service; close it, or use it as a context manager. Methods raise ClientError.

    A call is tried again for `retry_s` seconds while there is no answer or the service is busy (429, 503);
    0 tries once. May be used by several threads.

    >>> with LosscastClient("http://127.0.0.1:8000") as client:
    ...     reply = client.predict(Path("photo.jpg"))
    ...     print(reply.predicted_loss, reply.verdict.lossy)
    """

    predict = _sends(calls.predict)
    predict_many = _sends(calls.predict_many)
    model = _sends(calls.model)
    stats = _sends(calls.stats)
    drift = _sends(calls.drift)
    lease = _sends(calls.lease)
    extend = _sends(calls.extend)
    label = _sends(calls.label)
    skip = _sends(calls.skip)
    reject = _sends(calls.reject)
    requeue = _sends(calls.requeue)
    sample = _sends(calls.sample)
    image = _sends(calls.image)
    erase = _sends(calls.erase)
    label_page = _sends(calls.label_page)
    coco_page = _sends(calls.coco_page)

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._http = httpx.Client(**sending.connection(url, api_key))
        self._timeout_s = timeout_s
        self._retry_s = retry_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def labels(self, *, model: str | None = None, cursor: str = "") -> Iterator[LabelLine]:
        """All labels that are there now, oldest first, page by page; from a cursor on when one is given."""
        while (page := self.label_page(cursor, model=model)).labels:
            yield from page.labels
            cursor = page.cursor

    @contextmanager
    def leased(
        self, n: int = 1, *, annotator: str, model: str | None = None, lease_s: float = LEASE_S
    ) -> Iterator[list[LeasedSample]]:
        """Leases samples and keeps them for as long as the block runs; hand them to `label`, `skip` or `reject`.

        The lease is extended in the background, several times within lease_s; what goes wrong there is logged,
        and leaving the block does not wait for it. Samples that are left when the
        block ends go back into the queue when the lease runs out, at most lease_s later; so they do when this
        process dies.

        >>> with client.leased(5, annotator="ada") as samples:
        ...     for sample in samples:
        ...         client.label(sample, draw(client.image(sample)))
        """
        token = uuid.uuid4().hex
        samples = self.lease(n, annotator=annotator, token=token, model=model, lease_s=lease_s).samples
        extension = sending.build(calls.extend, annotator=annotator, token=token, model=model, lease_s=lease_s)
        pause_s = lease_s / TRIES
        left = threading.Event()

        def keep() -> None:
            while not left.wait(pause_s):
                try:
                    self._once(extension, min(pause_s, self._timeout_s))
                except Exception as error:  # noqa: BLE001 - whatever it was, the next try may succeed
                    log.warning("the lease %s was not extended: %s", token, error)

        keeper = threading.Thread(target=keep, name="losscast-lease", daemon=True)
        keeper.start()
        try:
            yield samples
        finally:
            left.set()
            keeper.join(LEAVE_S)

    def send(self, call: Call[T]) -> T:
        """Sends one of `service.client.requests`. Raises ClientError."""
        for attempt in stamina.retry_context(on=Patience(self._retry_s), attempts=None, timeout=None, wait_max=1.0):
            with attempt:
                return self._once(call, self._timeout_s)
        raise AssertionError("stamina gives up by raising")

    def _once(self, call: Call[T], timeout_s: float) -> T:
        try:
            response = self._http.request(**sending.arguments(call), timeout=timeout_s)
        except httpx.TransportError as error:
            raise sending.no_answer(self._http.base_url, error) from error
        return sending.read(call, response)
