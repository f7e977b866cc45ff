"""AsyncLosscastClient: `service.client` for asyncio."""

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

from service.client import requests as calls
from service.client import transport as sending
from service.client.blocking import DEFAULT_URL, LEASE_S, RETRY_S, TIMEOUT_S, TRIES
from service.client.patience import Patience
from service.client.transport import Call
from service.schemas.labelling import LabelLine, LeasedSample
from service.schemas.predictions import ManyReply, PredictReply

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


def _sends(build: Callable[P, Call[T]]) -> Callable[Concatenate["AsyncLosscastClient", P], Coroutine[Any, Any, T]]:
    """A method that sends the call which `build` makes; its parameters are those of `build`."""

    @sending.method_of(build)
    async def method(self: "AsyncLosscastClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(sending.build(build, *args, **kwargs))

    return method


class AsyncLosscastClient:
    """LosscastClient with methods to be awaited.

    >>> async with AsyncLosscastClient("http://127.0.0.1:8000") as client:
    ...     replies = await asyncio.gather(*(client.predict(photo) for photo in photos))
    """

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
        self._http = httpx.AsyncClient(**sending.connection(url, api_key))
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

    @sending.method_of(calls.predict)
    async def predict(
        self,
        image: bytes | Path,
        *,
        model: str | None = None,
        source: str | None = None,
        operating_point: str | None = None,
    ) -> PredictReply:
        content = await asyncio.to_thread(image.read_bytes) if isinstance(image, Path) else image
        call = sending.build(calls.predict, content, model=model, source=source, operating_point=operating_point)
        return await self.send(call)

    @sending.method_of(calls.predict_many)
    async def predict_many(
        self,
        images: Sequence[bytes | Path],
        *,
        model: str | None = None,
        source: str | None = None,
        operating_point: str | None = None,
    ) -> ManyReply:
        call = await asyncio.to_thread(
            sending.build, calls.predict_many, images, model=model, source=source, operating_point=operating_point
        )
        return await self.send(call)

    async def labels(self, *, model: str | None = None, cursor: str = "") -> AsyncIterator[LabelLine]:
        """All labels that are there now, oldest first, page by page; from a cursor on when one is given."""
        while (page := await self.label_page(cursor, model=model)).labels:
            for line in page.labels:
                yield line
            cursor = page.cursor

    @asynccontextmanager
    async def leased(
        self, n: int = 1, *, annotator: str, model: str | None = None, lease_s: float = LEASE_S
    ) -> AsyncIterator[list[LeasedSample]]:
        """Leases samples and keeps them for as long as the block runs; as LosscastClient.leased.

        >>> async with client.leased(5, annotator="ada") as samples:
        ...     for sample in samples:
        ...         await client.label(sample, await draw(await client.image(sample)))
        """
        token = uuid.uuid4().hex
        samples = (await self.lease(n, annotator=annotator, token=token, model=model, lease_s=lease_s)).samples
        extension = sending.build(calls.extend, annotator=annotator, token=token, model=model, lease_s=lease_s)
        pause_s = lease_s / TRIES

        async def keep() -> None:
            while True:
                await asyncio.sleep(pause_s)
                try:
                    await self._once(extension, min(pause_s, self._timeout_s))
                except Exception as error:  # noqa: BLE001 - whatever it was, the next try may succeed
                    log.warning("the lease %s was not extended: %s", token, error)

        keeper = asyncio.create_task(keep(), name="losscast-lease")
        try:
            yield samples
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})

    async def send(self, call: Call[T]) -> T:
        """Sends one of `service.client.requests`. Raises ClientError."""
        async for attempt in stamina.retry_context(
            on=Patience(self._retry_s), attempts=None, timeout=None, wait_max=1.0
        ):
            with attempt:
                return await self._once(call, self._timeout_s)
        raise AssertionError("stamina gives up by raising")

    async def _once(self, call: Call[T], timeout_s: float) -> T:
        try:
            response = await self._http.request(**sending.arguments(call), timeout=timeout_s)
        except httpx.TransportError as error:
            raise sending.no_answer(self._http.base_url, error) from error
        return sending.read(call, response)
