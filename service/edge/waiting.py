"""Waits for a client's body and for an answer. A wait ends when its time is over or when the client leaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import DeadlineExceeded, UploadTimeout

T = TypeVar("T")

# The watch for a client that leaves begins after this long: it costs an asyncio task, and most answers come sooner.
WATCH_AFTER_S = 0.02


async def whole_body(
    receive: Receive, upload_timeout_s: float, deadline: float | None, arrived: Callable[[int], None]
) -> bytes:
    """The body. arrived: called with the number of bytes of each piece; it refuses them by raising.

    Raises UploadTimeout, DeadlineExceeded when the deadline comes first, and ClientDisconnect.
    """
    limit_s = upload_timeout_s if deadline is None else min(upload_timeout_s, deadline - time.monotonic())
    try:
        async with asyncio.timeout(limit_s):
            return await _body(receive, arrived)
    except TimeoutError as error:
        if limit_s < upload_timeout_s:
            raise _late() from error
        raise UploadTimeout(f"the body did not come within {upload_timeout_s:g} s: send a smaller image") from error


async def in_time(work: Awaitable[T], receive: Receive, deadline: float) -> T:
    """The result of `work`, which is cancelled when the deadline (of time.monotonic) passes or the client leaves.

    receive: of a request whose body was read. Raises DeadlineExceeded and ClientDisconnect.
    """
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        if not limit.expired():
            left = True
            limit.reschedule(loop.time())

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    timer = loop.call_later(WATCH_AFTER_S, begin)
    try:
        async with asyncio.timeout(deadline - time.monotonic()) as limit:
            return await work
    except TimeoutError as error:
        raise (ClientDisconnect() if left else _late()) from error
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()


async def _body(receive: Receive, arrived: Callable[[int], None]) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        arrived(len(chunks[-1]))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "no answer within the time allowed: retry, or allow more with X-Request-Timeout-Ms, at most "
        "LOSSCAST_REQUEST_TIMEOUT_S of the service"
    )
