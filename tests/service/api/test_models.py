"""Several models and versions over HTTP, and the queues of models that are not served any more."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

from models.contract.index import ModelIndex, write_index
from service.redis.private_valkey import private_valkey

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
LOSSY = 0.8
PNG = {"content-type": "image/png"}


@pytest.fixture
def store(tmp_path: Path, publish_version: Callable[..., None]) -> Path:
    """`tiny` with version 2 live and 1 the previous one, and `second`."""
    for model, version in (("tiny", 1), ("tiny", 2), ("second", 1)):
        publish_version(tmp_path / "bundles", version, model=model)
    write_index(tmp_path / "bundles/tiny", ModelIndex(live=2, previous=1))
    write_index(tmp_path / "bundles/second", ModelIndex(live=1))
    return tmp_path / "bundles"


@pytest.fixture
async def http(open_service: OpenService, store: Path) -> httpx.AsyncClient:
    return await open_service(bundles=store, max_batch=1, workers=1)


async def pending(http: httpx.AsyncClient, model: str) -> None:
    """Returns once a sample has come through the journal into the queue."""
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await http.get("/v1/queue/stats", params={"model": model})).json()["pending"] == 1


async def lease(http: httpx.AsyncClient, model: str) -> dict[str, Any]:
    request = {"model": model, "n": 1, "annotator": "ada", "token": "t"}
    (sample,) = (await http.post("/v1/queue/lease", json=request)).json()["samples"]
    return dict(sample)


async def test_a_version_that_is_not_live_is_asked_for_by_its_number_and_an_empty_name_is_none(
    http: httpx.AsyncClient, grey: Grey
) -> None:
    async def post(path: str) -> httpx.Response:
        return await http.post(f"/v1/{path}predict", content=grey(0.2), headers=PNG)

    served = {"": "2", "models/tiny/": "2", "models/tiny/versions/1/": "1", "models/tiny/versions/2/": "2"}
    for path, version in served.items():
        assert (await post(path)).json()["version"] == version
    for path in ("models//", "models/tiny/versions//", "models/tiny/versions/3/", "models/third/"):
        assert (await post(path)).status_code == 404


async def test_models_are_listed_with_what_is_live_and_the_state_of_every_version(http: httpx.AsyncClient) -> None:
    versions = [{"version": version, "state": "READY", "reason": ""} for version in ("1", "2")]
    unloaded = [{"version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]
    assert (await http.post("/v2/repository/models/second/unload")).status_code == 200
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await http.get("/v1/models")).json() == {
                "default": "tiny",
                "models": [
                    {"name": "tiny", "live": "2", "versions": versions},
                    {"name": "second", "live": None, "versions": unloaded},
                ],
            }
    tiny = (await http.get("/v1/models/tiny")).json()
    assert (tiny["version"], tiny["versions"]) == ("2", versions)
    assert tiny["tuning"]["max_batch"] == 1
    assert (await http.get("/v1/models/second")).status_code == 404


async def test_a_model_that_was_unloaded_has_its_samples_labelled_still(http: httpx.AsyncClient, grey: Grey) -> None:
    path = "/v1/models/second/predict"
    assert (await http.post(path, content=grey(LOSSY), headers=PNG)).json()["queue"] == "accepted"
    await pending(http, "second")
    assert (await http.post("/v2/repository/models/second/unload")).status_code == 200
    assert (await http.post(path, content=grey(LOSSY), headers=PNG)).status_code == 404
    sample = await lease(http, "second")
    label = {"values": [[1, 2], [3, 4]]}
    request = {"model": "second", "sample_id": sample["sample_id"], "annotator": "ada", "token": "t", "label": label}
    assert (await http.post("/v1/queue/label", json=request)).status_code == 200
    assert 'losscast_queue_samples{model="second",state="labelled"} 1.0' in (await http.get("/metrics")).text
    assert (await http.get("/v2/health/ready")).status_code == 200


async def test_samples_of_a_model_that_is_not_in_the_store_can_be_seen_and_leased(
    open_service: OpenService, store: Path, tmp_path: Path, grey: Grey
) -> None:
    shutil.copytree(store / "tiny", tmp_path / "other/tiny")
    async with private_valkey(tmp_path / "valkey") as socket:
        settings = {"max_batch": 1, "workers": 1, "redis_url": f"unix://{socket}"}
        first = await open_service(bundles=store, **settings)
        path = "/v1/models/second/predict"
        assert (await first.post(path, content=grey(LOSSY), headers=PNG)).json()["queue"] == "accepted"
        await pending(first, "second")
        other = await open_service(bundles=tmp_path / "other", state=tmp_path / "other-state", **settings)
        assert [model["name"] for model in (await other.get("/v1/models")).json()["models"]] == ["tiny"]
        await pending(other, "second")
        assert (await lease(other, "second"))["model"] == "second"
        for unknown in ("third", "no name}"):
            assert (await other.get("/v1/queue/stats", params={"model": unknown})).status_code == 404
