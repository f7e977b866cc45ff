"""kill -9 around a promotion: of the service on probation, and of the Redis that holds the lock of a refinement."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import stamina

from models.contract.index import ModelIndex, write_index
from service.redis.server import RedisServer
from service.versions.refinement_lock import RefinementLock
from tests.conftest import FAULTY
from tests.running import Redis, Service

PNG = {"content-type": "image/png"}
FAULT = 0.9  # brightness at which version 2 fails


@pytest.mark.slow
def test_a_service_that_is_killed_on_probation_judges_on_and_goes_back(
    tmp_path: Path, publish_version: Callable[..., None], grey: Callable[..., bytes]
) -> None:
    store = tmp_path / "bundles"
    publish_version(store, 1)
    publish_version(store, 2, text=FAULTY)
    write_index(store / "tiny", ModelIndex(live=1))
    service = Service(store, tmp_path, LOSSCAST_POLL_S="0")
    service.start()
    body = {"version": "2", "expected_live": "1", "reason": "a test"}
    assert service.http.post("/v1/models/tiny/promote", json=body).status_code == 200
    for tag in range(5):  # too few for a complaint
        assert service.http.post("/v1/predict", content=grey(FAULT, tag=tag), headers=PNG).status_code == 500
    service.stop(signal.SIGKILL)
    service.start()
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            assert service.http.get("/v1/models/tiny/history").json()["probation"] is not None
    for tag in range(10):
        assert service.http.post("/v1/predict", content=grey(FAULT, tag=tag), headers=PNG).status_code == 500
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            known = service.http.get("/v1/models/tiny/history").json()
            assert [change["event"] for change in known["changes"]] == ["rolled_back", "promoted", "live"]
    assert service.http.post("/v1/predict", content=grey(FAULT, tag=99), headers=PNG).status_code == 200
    assert service.stop() == 0


async def test_a_redis_that_was_killed_gives_no_token_a_second_time(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    redis.start()
    server = RedisServer.open(str(redis.socket), 5.0)
    lock = RefinementLock(server)
    first = await lock.take("tiny", "ada", 0.01, above=0)
    redis.send(signal.SIGKILL)
    redis.start()
    await asyncio.sleep(0.01)
    again = None
    async for attempt in stamina.retry_context(on=Exception, attempts=None, timeout=20, wait_max=0.1):
        with attempt:
            again = await lock.take("tiny", "bob", 60, above=first.token)
    assert again is not None
    assert again.token > first.token
    await server.close()
    redis.send(signal.SIGTERM)
    assert redis.process is not None
    redis.process.wait(20)
