"""AsyncLosscastClient: the service from asyncio. It has the methods of `service.client.blocking`, to be awaited."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

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
from service.schemas.predictions import ManyReply, PredictReply

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


def _sends(
    build: Callable[P, ApiRequest[T]],
) -> Callable[Concatenate["AsyncLosscastClient", P], Coroutine[Any, Any, T]]:
    """A method that sends the request of `build`; its parameters are those of `build`."""

    @transport.method_of(build)
    async def method(self: "AsyncLosscastClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(transport.build(build, *args, **kwargs))

    return method


class AsyncLosscastClient:
    """LosscastClient, with methods that are awaited.

    >>> async with AsyncLosscastClient("http://127.0.0.1:8000") as client:
    ...     replies = await asyncio.gather(*(client.predict(photo) for photo in photos))
    """

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
        self._http = httpx.AsyncClient(**transport.connection(url, api_key))
        self._timeout_s = timeout_s
        self._retry_s = retry_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    @transport.method_of(requests.predict)
    async def predict(
        self,
        image: bytes | Path,
        *,
        model: str | None = None,
        source: str | None = None,
        operating_point: str | None = None,
    ) -> PredictReply:
        content = await asyncio.to_thread(image.read_bytes) if isinstance(image, Path) else image
        request = transport.build(
            requests.predict, content, model=model, source=source, operating_point=operating_point
        )
        return await self.send(request)

    @transport.method_of(requests.predict_many)
    async def predict_many(
        self,
        images: Sequence[bytes | Path],
        *,
        model: str | None = None,
        source: str | None = None,
        operating_point: str | None = None,
    ) -> ManyReply:
        request = await asyncio.to_thread(
            transport.build, requests.predict_many, images, model=model, source=source, operating_point=operating_point
        )
        return await self.send(request)

    async def labels(self, *, model: str | None = None, cursor: str = "") -> AsyncIterator[LabelLine]:
        """Every label that the service has now, oldest first. It asks page by page, and begins at `cursor`."""
        while (page := await self.label_page(cursor, model=model)).labels:
            for line in page.labels:
                yield line
            cursor = page.cursor

    @asynccontextmanager
    async def leased(
        self, n: int = 1, *, annotator: str, model: str | None = None, lease_s: float = LEASE_S
    ) -> AsyncIterator[list[LeasedSample]]:
        """Leases samples and keeps them while the block runs, as LosscastClient.leased does.

        >>> async with client.leased(5, annotator="ada") as samples:
        ...     for sample in samples:
        ...         await client.label(sample, await draw(await client.image(sample)))
        """
        token = uuid.uuid4().hex
        samples = (await self.lease(n, annotator=annotator, token=token, model=model, lease_s=lease_s)).samples
        extension = transport.build(requests.extend, annotator=annotator, token=token, model=model, lease_s=lease_s)
        pause_s = lease_s / EXTENSIONS

        async def keep() -> None:
            while True:
                await asyncio.sleep(pause_s)
                try:
                    await self._once(extension, min(pause_s, self._timeout_s))
                except Exception as error:  # noqa: BLE001 - every error is logged, and the next try may succeed
                    log.warning("the lease %s was not extended: %s", token, error)

        keeper = asyncio.create_task(keep(), name="losscast-lease")
        try:
            yield samples
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})

    async def send(self, request: ApiRequest[T]) -> T:
        """Sends a request that `service.client.requests` built, and tries again for `retry_s`. Raises ClientError."""
        async for attempt in stamina.retry_context(
            on=RetryHook(self._retry_s), attempts=None, timeout=None, wait_max=RETRY_PAUSE_MAX_S
        ):
            with attempt:
                return await self._once(request, self._timeout_s)
        raise AssertionError("stamina gives up by raising")

    async def _once(self, request: ApiRequest[T], timeout_s: float) -> T:
        try:
            response = await self._http.request(**transport.arguments(request), timeout=timeout_s + request.wait_s)
        except httpx.TransportError as error:
            raise transport.no_answer(self._http.base_url, error) from error
        return transport.read(request, response)
