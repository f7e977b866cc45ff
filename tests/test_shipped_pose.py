"""The bundle that is served when nobody says otherwise, asked over HTTP by its defaults."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import pytest_asyncio
import stamina

from demo.figure import JOINTS, draw
from service.app import create_app
from service.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
VERSION = REPOSITORY / "bundles" / "pose" / "1"
PNG = {"content-type": "image/png"}


@asynccontextmanager
async def service(state: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(bundles=REPOSITORY / "bundles", state=state, audit_rate=0))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http,
    ):
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A service that the tests share: what they post stays in its queue."""
    async with service(tmp_path_factory.mktemp("state")) as http:
        yield http


def png(image: np.ndarray[Any, Any]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_it_is_at_most_16_mb_and_holds_no_image() -> None:
    files = {path.name: path.stat().st_size for path in VERSION.iterdir()}
    assert set(files) == {"model.onnx", "manifest.json", "model_card.md"}
    assert sum(files.values()) <= 16_000_000


@pytest.mark.asyncio(loop_scope="module")
async def test_the_default_model_says_what_it_promises_and_how_to_draw_it(http: httpx.AsyncClient) -> None:
    model = (await http.get("/v1/models")).json()["default"]
    manifest = (await http.get(f"/v1/models/{model}")).json()
    assert model == manifest["model"] == "pose"
    assert manifest["keypoint_loss"]
    assert manifest["task"]["names"] == list(JOINTS)
    assert len(manifest["task"]["skeleton"]) == len(JOINTS)
    promises = {"budget", "miss_rate", "joint_risk", "selective_risk"}
    assert set(manifest["operating_points"]) | set(manifest["refused_operating_points"]) == promises
    assert manifest["operating_point"] == "budget"


@pytest.mark.asyncio(loop_scope="module")
async def test_it_finds_the_joints_of_the_drawn_figure_and_the_readme_shows_its_reply(http: httpx.AsyncClient) -> None:
    reply = (await http.post("/v1/predict", content=png(draw()), headers=PNG)).json()
    found, truth = np.array(reply["prediction"]["values"]), np.array(list(JOINTS.values()))
    torso = np.linalg.norm(truth[list(JOINTS).index("neck")] - truth[list(JOINTS).index("left_hip")])
    assert np.median(np.linalg.norm(found - truth, axis=1)) < 0.25 * torso
    (shown,) = re.findall(r"```json\n(.+?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    for name in ("predicted_loss", "ood_score"):
        assert float(re.findall(rf'"{name}": ([\d.]+)', shown)[-1]) == pytest.approx(reply[name], abs=0.02)
    pairs = np.array(re.findall(r"\[(\d+\.\d), (\d+\.\d)\]", shown), float)
    assert pairs == pytest.approx(found[: len(pairs)], abs=0.5)
    assert len(pairs) > 1
    (joints,) = re.findall(r'"predicted_loss": \[([\d., ]+)', shown)
    losses = [float(one) for one in re.findall(r"[\d.]+", joints)]
    assert losses == pytest.approx(reply["prediction"]["predicted_loss"][: len(losses)], abs=0.02)
    assert f'"lossy": {str(reply["verdict"]["lossy"]).lower()}' in shown
    assert f'"queue": "{reply["queue"]}"' in shown


@pytest.mark.asyncio(loop_scope="module")
async def test_a_picture_with_nobody_in_it_is_flagged_by_both_scores(http: httpx.AsyncClient) -> None:
    picture = (REPOSITORY / "docs" / "demo.png").read_bytes()
    reply = (await http.post("/v1/predict", content=picture, headers=PNG)).json()
    assert reply["verdict"]["reasons"] == ["predicted_loss", "ood_score"]


async def test_an_image_it_cannot_read_waits_in_the_queue_with_the_loss_of_every_joint(tmp_path: Path) -> None:
    async with service(tmp_path / "state") as http:
        noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
        reply = (await http.post("/v1/predict", content=png(noise), headers=PNG)).json()
        assert reply["verdict"]["lossy"]
        assert reply["queue"] == "accepted"
        async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
            with attempt:
                assert (await http.get("/v1/queue/stats")).json()["pending"] == 1
        leased = await http.post("/v1/queue/lease", json={"n": 1, "annotator": "ada", "token": "t"})
        (sample,) = leased.json()["samples"]
        assert sample["sample_id"] == reply["sample_id"]
        assert sample["prediction"] == reply["prediction"]
        assert len(sample["prediction"]["predicted_loss"]) == len(JOINTS)
