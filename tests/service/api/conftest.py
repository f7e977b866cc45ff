"""Samples that wait in the queue of a real service."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
import stamina

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Queued = Callable[[int], Awaitable[list[str]]]


@pytest.fixture
async def http(open_service: OpenService) -> httpx.AsyncClient:
    """A service that draws nothing for the audit lane, because tests count samples."""
    return await open_service(audit_rate=0)


@pytest.fixture
def queued(http: httpx.AsyncClient, grey: Callable[..., bytes]) -> Queued:
    """Posts n lossy images of 20 x 15 pixels and returns their sample ids once they are pending."""

    async def post(n: int) -> list[str]:
        replies = [await http.post("/v1/predict", content=grey(0.9, (20, 15), tag=tag + 1)) for tag in range(n)]
        assert [reply.json()["queue"] for reply in replies] == ["accepted"] * n
        async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
            with attempt:
                assert (await http.get("/v1/queue/stats")).json()["pending"] == n
        return [reply.json()["sample_id"] for reply in replies]

    return post
