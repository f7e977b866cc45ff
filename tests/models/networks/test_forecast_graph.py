import numpy as np
import pytest
import torch

from models.calibration.loss_map import LossMap, fit_loss_map
from models.calibration.ood import Gaussian, fit_gaussian
from models.networks.forecast_graph import ForecastGraph
from models.networks.loss_head import LossHeadConfig, build_loss_head
from models.networks.regressors import KeypointNet, KeypointNetConfig, normalise


@pytest.fixture(scope="module")
def score_map() -> LossMap:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=300)
    return fit_loss_map(scores, np.exp(scores + rng.normal(size=300)))


@pytest.fixture(scope="module")
def reference() -> Gaussian:
    rng = np.random.default_rng(1)
    return fit_gaussian(rng.normal(size=(300, 120)) @ rng.normal(size=(120, 120)))


@pytest.fixture(scope="module")
def graph(score_map: LossMap, reference: Gaussian) -> ForecastGraph:
    torch.manual_seed(0)
    net = KeypointNet(KeypointNetConfig())
    return ForecastGraph(net, build_loss_head(LossHeadConfig(net.map_channels)), score_map, reference)


def test_the_graph_computes_what_calibration_defines(
    graph: ForecastGraph, score_map: LossMap, reference: Gaussian
) -> None:
    images = torch.randint(0, 256, (5, 64, 64, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        forecast, features = graph(images), graph.regressor(normalise(images))
    assert torch.equal(forecast.prediction, features.prediction)
    assert torch.equal(forecast.embedding, features.embedding)
    np.testing.assert_allclose(forecast.predicted_loss, score_map(forecast.score.numpy()), rtol=1e-5)
    np.testing.assert_allclose(forecast.ood_score, reference.distance(forecast.embedding.numpy()), rtol=1e-4)


def test_predicted_loss_is_positive_finite_and_never_turns_the_order_around(
    graph: ForecastGraph, score_map: LossMap
) -> None:
    knots = score_map.knots
    scores = torch.linspace(float(knots[0]) - 20, float(knots[-1]) + 1000, 20_001)
    losses = graph._predicted_loss(scores)
    np.testing.assert_allclose(losses, score_map(scores.numpy()), rtol=1e-5)
    assert torch.isfinite(losses).all()
    assert (losses > 0).all()
    assert (losses.diff() > 0).all()


def test_a_graph_is_built_in_eval_mode(graph: ForecastGraph) -> None:
    assert not any(module.training for module in graph.modules())
