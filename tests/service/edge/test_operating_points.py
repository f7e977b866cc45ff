"""A request picks the promise that its verdict keeps; whoever picks none gets the service's."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import stamina

from models.contract.bundle import publish, read_onnx
from models.contract.index import ModelIndex, write_index
from models.contract.manifest import Manifest, OperatingPoint
from service.client import requests

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
PNG = {"content-type": "image/png"}
BETWEEN = 0.4  # the brightness, and so the score, of an image that the strict point flags and the budget does not


@pytest.fixture
def two_points(tiny_version: Manifest, tiny_store: Path, tmp_path: Path) -> Path:
    """A store with `tiny`, which has a strict operating point (score above 0.3) beside its budget (above 0.5)."""
    budget = tiny_version.operating_points["budget"]
    strict = OperatingPoint(**{**budget.model_dump(), "kind": "miss_rate", "score_threshold": 0.3})
    changes = {
        "operating_points": {"budget": budget, "strict": strict},
        "refused_operating_points": {"joint_risk": "the smallest that can be promised is 3 pixels"},
    }
    content = read_onnx(tiny_store / "tiny" / "1", tiny_version)
    files = {"model.onnx": content, "model_card.md": b"# tiny\n"}
    publish(tmp_path / "two-points", tiny_version.model_copy(update=changes), files)
    write_index(tmp_path / "two-points" / "tiny", ModelIndex(live=1))
    return tmp_path / "two-points"


async def ask(http: httpx.AsyncClient, body: bytes, query: str = "", path: str = "/v1/predict") -> httpx.Response:
    return await http.post(path + query, content=body, headers=PNG)


async def test_the_point_of_the_request_makes_the_verdict_and_decides_about_the_queue(
    open_service: OpenService, two_points: Path, grey: Grey
) -> None:
    http = await open_service(bundles=two_points)
    usual = (await ask(http, grey(BETWEEN))).json()
    assert usual["verdict"] == {"lossy": False, "reasons": [], "operating_point": "budget"}
    assert usual["queue"] == "none"
    for path in ("/v1/predict", "/v1/models/tiny/predict"):
        strict = (await ask(http, grey(BETWEEN, tag=1), "?operating_point=strict", path)).json()
        assert strict["verdict"] == {"lossy": True, "reasons": ["predicted_loss"], "operating_point": "strict"}
        assert strict["queue"] == "accepted"
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await http.get("/v1/queue/stats")).json()["pending"] == 1


async def test_the_setting_is_for_requests_that_name_none(
    open_service: OpenService, two_points: Path, grey: Grey
) -> None:
    http = await open_service(bundles=two_points, operating_point="strict")
    assert (await ask(http, grey(BETWEEN))).json()["verdict"]["operating_point"] == "strict"
    named = (await ask(http, grey(BETWEEN), "?operating_point=budget")).json()
    assert named["verdict"] == {"lossy": False, "reasons": [], "operating_point": "budget"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", "there is no operating point 'none': choose one of budget, strict"),
        ("", "there is no operating point '': choose one of budget, strict"),
        ("joint_risk", "'joint_risk' is not offered: the smallest that can be promised is 3 pixels"),
    ],
)
async def test_a_point_that_is_not_there_is_refused_with_those_that_are(
    open_service: OpenService, two_points: Path, grey: Grey, name: str, says: str
) -> None:
    http = await open_service(bundles=two_points)
    reply = await ask(http, grey(BETWEEN), f"?operating_point={name}")
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]


async def test_the_model_says_which_points_there_are_and_the_schema_that_one_may_be_picked(
    open_service: OpenService, two_points: Path
) -> None:
    http = await open_service(bundles=two_points)
    model = (await http.get("/v1/models/tiny")).json()
    assert set(model["operating_points"]) == {"budget", "strict"}
    assert set(model["refused_operating_points"]) == {"joint_risk"}
    assert model["operating_points"]["strict"]["kind"] == "miss_rate"
    paths = (await http.get("/openapi.json")).json()["paths"]
    for path in ("/v1/predict", "/v1/models/{model}/predict"):
        assert ("query", "operating_point") in {(one["in"], one["name"]) for one in paths[path]["post"]["parameters"]}


def test_the_client_names_the_point_it_is_given() -> None:
    assert requests.predict(b"", operating_point="strict").params == {"operating_point": "strict"}
    assert requests.predict(b"").params == {}
