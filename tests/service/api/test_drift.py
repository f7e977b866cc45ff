"""GET /v1/drift of a real service on the model `tiny`, whose bundle has references of the scores alone."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Grey = Callable[..., bytes]


@pytest.fixture
async def http(open_service: OpenService) -> httpx.AsyncClient:
    return await open_service(drift_flush_s=0.05)


async def reported(http: httpx.AsyncClient, path: str = "/v1/drift", **fields: Any) -> dict[str, Any]:
    """The report, once it has these fields."""
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.05):
        with attempt:
            reply = await http.get(path)
            assert reply.status_code == 200, reply.text
            assert {name: reply.json()[name] for name in fields} == fields
    return dict(reply.json())


async def test_the_report_counts_posted_images(http: httpx.AsyncClient, grey: Grey) -> None:
    for tag in range(5):
        assert (await http.post("/v1/predict", content=grey(0.2, tag=tag))).status_code == 200
    report = await reported(http, observations=5)
    assert (report["model"], report["version"], report["state"]) == ("tiny", "1", "insufficient_data")
    assert report["not_watched"] == ["luminance", "contrast", "sharpness", "aspect", "size"]
    assert [signal["name"] for signal in report["signals"]] == ["score", "ood_score"]
    assert report["loss"] is None  # the bundle has no reference of losses
    assert 0 <= report["age_s"] < 30
    assert (await http.get("/v1/models/tiny/drift")).json()["observations"] == 5


async def test_images_of_one_source_count_once_within_the_interval(http: httpx.AsyncClient, grey: Grey) -> None:
    for tag in range(4):
        await http.post("/v1/predict", content=grey(0.2, tag=tag), headers={"x-source": "still camera"})
    await reported(http, observations=1, thinned=3)


async def test_images_over_the_other_protocol_count_as_well(http: httpx.AsyncClient) -> None:
    canvas = [[[[100]] * 8] * 8]
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 1], "data": canvas}
    assert (await http.post("/v2/models/tiny/infer", json={"inputs": [tensor]})).status_code == 200
    await reported(http, observations=1)


async def test_refused_images_do_not_count(http: httpx.AsyncClient, grey: Grey) -> None:
    assert (await http.post("/v1/predict", content=b"no image")).status_code == 415
    await http.post("/v1/predict", content=grey(0.2))
    await reported(http, observations=1)


async def test_an_unknown_model_is_not_found(http: httpx.AsyncClient) -> None:
    reply = await http.get("/v1/models/other/drift")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


async def test_a_model_that_was_unloaded_has_no_report(http: httpx.AsyncClient) -> None:
    await reported(http)
    await http.post("/v2/repository/models/tiny/unload")
    assert (await http.get("/v1/models/tiny/drift")).status_code == 404


async def test_while_the_server_is_away_from_the_start_the_report_is_unavailable_and_says_why(
    open_service: OpenService, tmp_path: Path, grey: Grey
) -> None:
    http = await open_service(redis_url=f"unix://{tmp_path}/nobody.sock", drift_flush_s=0.05)
    assert (await http.post("/v1/predict", content=grey(0.2))).status_code == 200
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.05):
        with attempt:
            reply = await http.get("/v1/drift")
            assert reply.status_code == 503
            assert "does not answer" in reply.json()["error"]["message"]
    assert int(reply.headers["retry-after"]) > 0
    metrics = (await http.get("/metrics")).text
    assert "losscast_drift_unflushed_observations 1.0" in metrics


async def test_each_version_has_a_report_of_its_own(
    open_service: OpenService, tiny_store: Path, tmp_path: Path, publish_version: Callable[..., None], grey: Grey
) -> None:
    store = tmp_path / "bundles"
    shutil.copytree(tiny_store, store)
    http = await open_service(bundles=store, drift_flush_s=0.05, poll_s=0.05)
    await http.post("/v1/predict", content=grey(0.2))
    await reported(http, version="1", observations=1)
    publish_version(store, 2)
    (store / "tiny" / "model.json").write_text('{"live": 2, "previous": 1, "shadow": null}')
    await reported(http, version="2", observations=0)
    for tag in range(3):
        await http.post("/v1/predict", content=grey(0.2, tag=tag))
    await reported(http, version="2", observations=3)
    (store / "tiny" / "model.json").write_text('{"live": 1, "previous": 2, "shadow": null}')
    await reported(http, version="1", observations=1)
