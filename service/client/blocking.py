"""LosscastClient: the service from Python, for the command line and for users.

`service.client.requests` and `version_requests` list the requests. The client sends them, tries again, and keeps leases
alive. `service.client.asynchronous` does the same for asyncio.
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

from service.client import requests, transport, version_requests
from service.client.transport import (
    DEFAULT_URL,
    EXTENSIONS,
    LEASE_S,
    RETRY_PAUSE_MAX_S,
    RETRY_S,
    TIMEOUT_S,
    ApiRequest,
    RetryHook,
)
from service.schemas.labelling import LabelLine, LeasedSample

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

LEAVE_S = 1.0  # how long leaving `leased` may wait for an extension that is under way


def _sends(build: Callable[P, ApiRequest[T]]) -> Callable[Concatenate["LosscastClient", P], T]:
    """A method that sends the request of `build`; its parameters are those of `build`."""

    @transport.method_of(build)
    def method(self: "LosscastClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(transport.build(build, *args, **kwargs))

    return method


class LosscastClient:
    """Talks to one service. Close it, or use it as a context manager. Methods raise ClientError.

    A request is tried again for `retry_s` seconds while there is no answer or the service is busy (429, 503).
    With 0 it is sent once. Several threads may share a client.

    >>> with LosscastClient("http://127.0.0.1:8000") as client:
    ...     reply = client.predict(Path("photo.jpg"))
    ...     print(reply.predicted_loss, reply.verdict.lossy)
    """

    predict = _sends(requests.predict)
    predict_many = _sends(requests.predict_many)
    model = _sends(requests.model)
    promote = _sends(version_requests.promote)
    rollback = _sends(version_requests.rollback)
    history = _sends(version_requests.history)
    candidates = _sends(version_requests.candidates)
    learned = _sends(version_requests.learned)
    learned_page = _sends(version_requests.learned_page)
    stats = _sends(requests.stats)
    drift = _sends(requests.drift)
    audits = _sends(requests.audits)
    lease = _sends(requests.lease)
    extend = _sends(requests.extend)
    label = _sends(requests.label)
    skip = _sends(requests.skip)
    reject = _sends(requests.reject)
    requeue = _sends(requests.requeue)
    sample = _sends(requests.sample)
    image = _sends(requests.image)
    erase = _sends(requests.erase)
    label_page = _sends(requests.label_page)
    coco_page = _sends(requests.coco_page)

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._http = httpx.Client(**transport.connection(url, api_key))
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
        """Every label that the service has now, oldest first. It asks page by page, and begins at `cursor`."""
        while (page := self.label_page(cursor, model=model)).labels:
            yield from page.labels
            cursor = page.cursor

    @contextmanager
    def leased(
        self, n: int = 1, *, annotator: str, model: str | None = None, lease_s: float = LEASE_S
    ) -> Iterator[list[LeasedSample]]:
        """Leases samples and keeps them while the block runs. Give each to `label`, `skip` or `reject`.

        A thread extends the lease several times within lease_s. It logs its errors, and leaving the block does not
        wait for it. Samples that are still leased when the block ends return to the queue when the lease runs out,
        at most lease_s later. The same happens when this process dies.

        >>> with client.leased(5, annotator="ada") as samples:
        ...     for sample in samples:
        ...         client.label(sample, draw(client.image(sample)))
        """
        token = uuid.uuid4().hex
        samples = self.lease(n, annotator=annotator, token=token, model=model, lease_s=lease_s).samples
        extension = transport.build(requests.extend, annotator=annotator, token=token, model=model, lease_s=lease_s)
        pause_s = lease_s / EXTENSIONS
        left = threading.Event()

        def keep() -> None:
            while not left.wait(pause_s):
                try:
                    self._once(extension, min(pause_s, self._timeout_s))
                except Exception as error:  # noqa: BLE001 - every error is logged, and the next try may succeed
                    log.warning("the lease %s was not extended: %s", token, error)

        keeper = threading.Thread(target=keep, name="losscast-lease", daemon=True)
        keeper.start()
        try:
            yield samples
        finally:
            left.set()
            keeper.join(LEAVE_S)

    def send(self, request: ApiRequest[T]) -> T:
        """Sends a request that `service.client.requests` built, and tries again for `retry_s`. Raises ClientError."""
        for attempt in stamina.retry_context(
            on=RetryHook(self._retry_s), attempts=None, timeout=None, wait_max=RETRY_PAUSE_MAX_S
        ):
            with attempt:
                return self._once(request, self._timeout_s)
        raise AssertionError("stamina gives up by raising")

    def _once(self, request: ApiRequest[T], timeout_s: float) -> T:
        try:
            response = self._http.request(**transport.arguments(request), timeout=timeout_s + request.wait_s)
        except httpx.TransportError as error:
            raise transport.no_answer(self._http.base_url, error) from error
        return transport.read(request, response)
