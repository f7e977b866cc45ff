"""Loading and unloading while the service runs, by the protocol's own client."""

import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.contract.index import ModelIndex, write_index

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
LOAD, UNLOAD = "/v2/repository/models/tiny/load", "/v2/repository/models/tiny/unload"
REQUEST = {"inputs": [{"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": [50] * 64}]}

CLIENT = """
import sys
from tritonclient.http import InferenceServerClient

with InferenceServerClient(sys.argv[1]) as client:
    client.unload_model("tiny")
    assert not client.is_model_ready("tiny")
    client.load_model("tiny")
    assert client.is_model_ready("tiny")
    assert client.get_model_repository_index() == [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}]
"""


@pytest.fixture
def store(tmp_path: Path, publish_version: Callable[..., None]) -> Path:
    """`tiny` with the versions 1, live, and 2."""
    for version in (1, 2):
        publish_version(tmp_path / "bundles", version)
    write_index(tmp_path / "bundles/tiny", ModelIndex(live=1))
    return tmp_path / "bundles"


@pytest.fixture
async def http(open_service: OpenService, store: Path) -> httpx.AsyncClient:
    """A service that looks at its store when it is told to."""
    return await open_service(bundles=store, poll_s=0)


async def index(http: httpx.AsyncClient, **request: Any) -> dict[str, str]:
    reply = await http.post("/v2/repository/index", json=request)
    assert {one["name"] for one in reply.json()} <= {"tiny"}
    return {one["version"]: one["state"] for one in reply.json()}


async def answering(http: httpx.AsyncClient, version: str | None = None) -> str:
    path = f"/v2/models/tiny{f'/versions/{version}' if version else ''}/infer"
    reply = await http.post(path, json=REQUEST)
    assert reply.status_code == 200, reply.text
    answered: str = reply.json()["model_version"]
    return answered


def test_the_protocols_client_unloads_and_loads(service_url: str) -> None:
    command = [sys.executable, "-c", CLIENT, service_url.removeprefix("http://")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert result.returncode == 0, result.stderr


async def test_what_the_store_names_is_served_once_it_is_loaded(http: httpx.AsyncClient, store: Path) -> None:
    assert await answering(http) == "1"
    write_index(store / "tiny", ModelIndex(live=2, previous=1))
    assert await answering(http) == "1"
    assert (await http.post(LOAD)).status_code == 200
    assert await answering(http) == "2"
    assert [await answering(http, version) for version in ("1", "2")] == ["1", "2"]
    assert (await http.get("/v2/models/tiny")).json()["versions"] == ["1", "2"]
    stats = (await http.get("/v2/models/stats")).json()["model_stats"]
    assert {one["version"]: one["inference_count"] for one in stats} == {"1": 3, "2": 2}
    assert await index(http, ready=True) == {"1": "READY", "2": "READY"}


async def test_a_replica_is_not_ready_while_its_default_model_is_unloaded(http: httpx.AsyncClient) -> None:
    assert (await http.post(UNLOAD)).status_code == 200
    reply = await http.get("/v2/health/ready")
    assert (reply.status_code, "unloaded" in reply.json()["error"]) == (503, True)
    assert (await http.post(LOAD)).status_code == 200
    assert (await http.get("/v2/health/ready")).status_code == 200


async def test_a_load_that_fails_says_why_and_keeps_the_old_version(http: httpx.AsyncClient, store: Path) -> None:
    write_index(store / "tiny", ModelIndex(live=2))
    (store / "tiny/2/model.onnx").write_bytes(b"no model")
    reply = await http.post(LOAD)
    assert reply.status_code >= 400
    assert "model.onnx" in reply.json()["error"]
    assert await answering(http) == "1"
    assert await index(http) == {"1": "READY", "2": "UNAVAILABLE"}
    assert await index(http, ready=True) == {"1": "READY"}


async def test_what_is_unloaded_is_not_there_until_it_is_loaded_again(http: httpx.AsyncClient) -> None:
    assert (await http.post(UNLOAD, json={"parameters": {"unload_dependents": False}})).status_code == 200
    assert (await http.post("/v2/models/tiny/infer", json=REQUEST)).status_code == 404
    for path in ("", "/ready", "/config", "/stats"):
        assert (await http.get(f"/v2/models/tiny{path}")).status_code == 404
    assert (await http.get("/v2/models/stats")).json() == {"model_stats": []}
    assert await index(http, ready=True) == {}
    assert (await http.post(LOAD)).status_code == 200
    assert await answering(http) == "1"


async def test_a_model_that_comes_into_the_store_can_be_loaded(http: httpx.AsyncClient, store: Path) -> None:
    unknown = await http.post(LOAD.replace("tiny", "new"))
    assert unknown.status_code == 404
    assert "no model 'new'" in unknown.json()["error"]
    shutil.copytree(store / "tiny", store / "new")  # its manifests are tiny's
    damaged = await http.post(LOAD.replace("tiny", "new"))
    assert damaged.status_code >= 400
    assert "its manifest is for tiny" in damaged.json()["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LOAD, b"not json"),
        (LOAD, b"[]"),
        (LOAD, b'{"parameters": {"config": "{}"}}'),
        (LOAD, b'{"parameters": {"file:1/model.onnx": "AAAA"}}'),
        (UNLOAD, b'{"parameters": 1}'),
        ("/v2/repository/index", b'{"ready": 1}'),
    ],
)
async def test_what_cannot_be_obeyed_is_refused(http: httpx.AsyncClient, path: str, body: bytes) -> None:
    reply = await http.post(path, content=body)
    assert reply.status_code == 400
    assert reply.json()["error"].isprintable()
    assert await answering(http) == "1"
