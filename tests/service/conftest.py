"""A whole service: real engine, journal, blobs and Valkey, in this process over ASGI or as one of its own."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import stamina

from service.app import create_app
from service.client import LosscastClient
from service.redis.private_valkey import _Server, server_program
from service.redis.server import RedisServer
from service.settings import Settings
from tests.running import Service
from tests.service.labelling.queue.forgetful import ForgetfulServer

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


def _programs() -> list[str]:
    """The servers that the queue's tests run on: the Valkey of the wheel, and Debian's Redis where it is installed."""
    redis = shutil.which("redis-server")
    if redis is None and os.environ.get("CI") == "true":
        raise pytest.UsageError("redis-server is missing: CI installs the Debian package redis-server")
    return list(dict.fromkeys(filter(None, [server_program(), redis])))


PROGRAMS = _programs()


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=PROGRAMS, ids=lambda path: Path(path).name)
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """Socket of a server that all tests share; each works under a model name of its own."""
    folder = tmp_path_factory.mktemp("valkey")
    running = _Server(request.param, folder, folder / "valkey.sock")
    await running.start()
    yield running.socket
    await running.stop()


@pytest_asyncio.fixture
async def redis(server: Path) -> AsyncIterator[RedisServer]:
    """A client of the server that all tests share."""
    made = RedisServer.open(str(server), 5.0)
    yield made
    await made.close()


@pytest.fixture
def model() -> str:
    """A name of its own on the server that all tests share."""
    return f"model-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def until() -> Until:
    """Waits for a condition, at most 30 s."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(30):
            while not await condition():  # noqa: ASYNC110 - what is waited for is outside this process
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does not wait for the server's disk, for tests that kill no server."""
    monkeypatch.setattr("service.labelling.queue.scripts.GRACE_S", 0.0)


@pytest.fixture
async def forgetful_server(tmp_path: Path, no_grace: None) -> AsyncIterator[ForgetfulServer]:  # noqa: ARG001 - it has no disk to wait for
    made = ForgetfulServer(tmp_path)
    await made.start()
    yield made
    await made.kill()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http,
    ):
        yield http


@pytest.fixture
async def open_service(tiny_store: Path, tmp_path: Path, no_grace: None) -> AsyncIterator[OpenService]:  # noqa: ARG001 - nothing is killed here
    """Opens a service on the model `tiny` with the given settings; closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def open_one(**settings: Any) -> httpx.AsyncClient:
            defaults = {"bundles": tiny_store, "model": "tiny", "state": tmp_path / "state", "audit_rate": 0}
            defaults |= {"max_batch": 8, "workers": 2}  # measuring them takes a second
            return await stack.enter_async_context(serving(Settings(**{**defaults, **settings})))

        yield open_one


@pytest.fixture
async def http(open_service: OpenService) -> httpx.AsyncClient:
    return await open_service()


@pytest.fixture(scope="module")
def service_url(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`losscast serve` on the model `tiny`, for one module of tests; draws nothing for the audit lane."""
    service = Service(tiny_store, tmp_path_factory.mktemp("service"), COLUMNS="300", NO_COLOR="1")
    service.start()
    yield str(service.http.base_url).rstrip("/")
    assert service.stop() == 0


@pytest.fixture
def client(service_url: str) -> Iterator[LosscastClient]:
    with LosscastClient(service_url) as client:
        yield client


@pytest.fixture
def queued(client: LosscastClient, grey: Callable[..., bytes]) -> Callable[[int], list[str]]:
    """Empties the queue, then posts n lossy images and returns their sample ids once they are pending."""

    def post(n: int) -> list[str]:
        while left := client.lease(100, annotator="broom").samples:
            for sample in left:
                client.reject(sample, "left by another test")
        before = client.stats()["accepted"]
        replies = [client.predict(grey(0.9, tag=before * 1000 + tag)) for tag in range(n)]
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.05):
            with attempt:
                assert client.stats()["pending"] == n
        return [reply.sample_id for reply in replies]

    return post
