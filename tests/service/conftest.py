"""A whole service in this process: real engine, journal, blobs and Valkey, reached over ASGI."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http,
    ):
        yield http


@pytest.fixture
async def open_service(tiny_store: Path, tmp_path: Path) -> AsyncIterator[OpenService]:
    """Opens a service on the model `tiny` with the given settings; closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def open_one(**settings: Any) -> httpx.AsyncClient:
            defaults = {"bundles": tiny_store, "model": "tiny", "state": tmp_path / "state", "audit_rate": 0}
            return await stack.enter_async_context(serving(Settings(**{**defaults, **settings})))

        yield open_one


@pytest.fixture
async def http(open_service: OpenService) -> httpx.AsyncClient:
    return await open_service()
