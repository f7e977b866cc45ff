"""A ledger on a real server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from service.drift.ledger import Ledger
from service.redis_server import RedisServer


@pytest_asyncio.fixture
async def redis(server: Path) -> AsyncIterator[RedisServer]:
    made = RedisServer.open(str(server), 5.0)
    yield made
    await made.close()


@pytest.fixture
def ledger(redis: RedisServer) -> Ledger:
    return Ledger(redis)
