"""Each keypoint has its own map from score to loss, and the graph applies all of them as they are defined."""

import numpy as np
import pytest
import torch

from models.calibration.keypoint_maps import KeypointMaps, fit_keypoint_maps
from models.calibration.loss_map import fit_gaussian, fit_loss_map
from models.networks.forecast_graph import ForecastGraph
from models.networks.heatmap import HeatmapNet, HeatmapNetConfig
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead, reading_sizes

LIMBS = ((0, 1), (1, 2))


def calibration(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(count, 3))
    losses = np.clip(np.array([0.1, 0.2, 0.4]) * np.exp(scores) * rng.gamma(4, 0.25, scores.shape), 0, 1)
    losses[20:, 2] = np.nan
    return scores, losses


def test_each_keypoint_is_right_on_average_and_a_rare_one_takes_the_map_of_all() -> None:
    scores, losses = calibration()
    maps = fit_keypoint_maps(scores, losses)
    predicted = maps(scores)
    assert predicted[:, :2].mean(axis=0) == pytest.approx(losses[:, :2].mean(axis=0), rel=1e-3)
    there = ~np.isnan(losses)
    assert np.array_equal(predicted[:, 2], fit_loss_map(scores[there], losses[there])(scores[:, 2]))


def test_the_graph_applies_every_map_to_its_own_keypoint() -> None:
    rng = np.random.default_rng(1)
    maps = fit_keypoint_maps(*calibration())
    net = HeatmapNet(HeatmapNetConfig(3, widths=(4, 6, 8, 8, 10), decoder=6))
    sizes = reading_sizes(net.map_channels, net.embedding_size, 3, len(LIMBS))
    head = KeypointLossHead(KeypointHeadConfig(sizes, 3, LIMBS))
    reference = fit_gaussian(rng.normal(size=(50, net.embedding_size)))
    graph = ForecastGraph(net, head, maps.maps[0], reference, maps)
    scores = torch.from_numpy(rng.normal(0, 2, (40, 3)).astype(np.float32))
    np.testing.assert_allclose(graph._predicted_loss(scores, "keypoint_"), maps(scores.numpy()), rtol=1e-5)
    forecast = graph(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert graph.outputs[-1] == "keypoint_loss"
    assert forecast.keypoint_loss.shape == (2, 3)


def test_maps_of_other_lengths_stand_side_by_side() -> None:
    maps = KeypointMaps([fit_loss_map([0.0, 1.0], [0.1, 0.2]), fit_loss_map(np.arange(100.0), np.arange(100.0))])
    assert maps.knots.shape == maps.values.shape == maps.slopes.shape == maps.widths.shape
    assert maps.knots.shape[0] == 2
