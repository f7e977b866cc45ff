"""From training to HTTP: what PyTorch computes is what a client of the service gets."""

from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import torch

from models.pipeline import calibrate, go_live, publish, train
from models.publishing.candidate import make_candidate
from models.publishing.export import export_onnx
from models.tasks.digits import Digits
from models.training.config import TrainingConfig
from service.app import create_app
from service.settings import Settings


@pytest.mark.slow
async def test_a_trained_exported_and_served_model_gives_pytorchs_numbers(tmp_path: Path) -> None:
    task, config = Digits(), TrainingConfig.tiny()
    trained = train(task, config)
    graph = calibrate(trained, task)
    onnx = export_onnx(graph, task.preprocessing.canvas_shape)
    candidate = make_candidate(graph, onnx, task, config)
    go_live(publish(candidate, {}, task, tmp_path / "bundles"))

    images = task.examples("test", 1, 0).images[:20]
    with torch.no_grad():
        expected = graph(torch.from_numpy(images))

    app = create_app(Settings(bundles=tmp_path / "bundles", model="digits", state=tmp_path / "state"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http,
    ):
        for row, image in enumerate(images):
            body = cv2.imencode(".png", image)[1].tobytes()
            reply = (await http.post("/v1/predict", content=body, headers={"content-type": "image/png"})).json()
            assert np.allclose(reply["prediction"]["values"], expected.prediction[row].numpy(), atol=1e-3)
            assert reply["predicted_loss"] == pytest.approx(expected.predicted_loss[row].item(), rel=1e-3)
            assert reply["ood_score"] == pytest.approx(expected.ood_score[row].item(), rel=1e-3)
            point = candidate.manifest.operating_points["budget"]
            lossy = expected.score[row].item() > point.score_threshold
            assert ("predicted_loss" in reply["verdict"]["reasons"]) == lossy
