"""Server, models and statistics, as a client of the Open Inference Protocol asks for them."""

from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Grey = Callable[..., bytes]


@pytest.fixture(scope="module")
def triton(service_url: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(service_url.removeprefix("http://")) as client:
        yield client


def test_the_server_and_its_model_say_what_they_are(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    server = triton.get_server_metadata()
    assert server["name"] == "losscast"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(server["extensions"])
    for version in ("", "1"):
        assert triton.is_model_ready("tiny", version)
        model = triton.get_model_metadata("tiny", version)
        assert (model["name"], model["versions"]) == ("tiny", ["1"])
        assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}]
        config = triton.get_model_config("tiny", version)
        assert config["max_batch_size"] == 32
        assert [one["name"] for one in config["output"]] == [one["name"] for one in model["outputs"]]


@pytest.mark.parametrize(("model", "version"), [("other", ""), ("tiny", "2"), ("tiny", "x"), ("stats", "")])
def test_an_unknown_model_or_version_is_not_ready_and_not_found(
    triton: InferenceServerClient, model: str, version: str
) -> None:
    assert not triton.is_model_ready(model, version)
    for ask in (triton.get_model_config, triton.get_inference_statistics):
        with pytest.raises(InferenceServerException) as told:
            ask(model, version)
        assert told.value.status() == "404"


async def test_the_statistics_count_images_of_both_interfaces(http: httpx.AsyncClient, grey: Grey) -> None:
    await http.post("/v1/predict", content=grey(0.2))
    await http.post("/v1/predict", content=b"text")
    tensor = {"name": "image", "shape": [2, 8, 8, 1], "datatype": "UINT8", "data": [100] * 128}
    assert (await http.post("/v2/models/tiny/infer", json={"inputs": [tensor]})).status_code == 200
    replies = [await http.get(f"/v2/models/{path}stats") for path in ("", "tiny/", "tiny/versions/1/")]
    for reply in replies:
        (stats,) = reply.json()["model_stats"]
        assert (stats["name"], stats["version"], stats["inference_count"]) == ("tiny", "1", 3)
        assert stats["inference_stats"]["success"]["count"] == 3
        assert stats["inference_stats"]["fail"]["count"] == 1
        assert stats["inference_stats"]["compute_infer"]["ns"] > 0
        assert sum(batch["compute_infer"]["count"] for batch in stats["batch_stats"]) == stats["execution_count"]


async def test_keys_guard_everything_but_the_health_probes(open_service: OpenService) -> None:
    http = await open_service(api_keys="secret")
    for path in ("", "/models/tiny", "/models/tiny/ready", "/models/tiny/config", "/models/stats"):
        assert (await http.get(f"/v2{path}")).status_code == 401
        assert (await http.get(f"/v2{path}", headers={"Authorization": "Bearer secret"})).status_code == 200
    for path in ("/models/tiny/infer", "/repository/index", "/repository/models/tiny/unload"):
        reply = await http.post(f"/v2{path}")
        assert reply.status_code == 401
        assert isinstance(reply.json()["error"], str)
    assert (await http.get("/v2/health/ready")).status_code == 200
