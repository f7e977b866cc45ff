"""The loss map never reverses an order and stays finite; each keypoint has its own, and the graph applies all."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibration.loss_map import KeypointMaps, LossMap, fit_keypoint_maps, fit_loss_map
from models.calibration.ood import fit_gaussian
from models.networks.forecast_graph import ForecastGraph
from models.networks.heatmap import HeatmapNet, HeatmapNetConfig
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead, reading_sizes

LIMBS = ((0, 1), (1, 2))


def _assert_sound(loss_map: LossMap, scores: NDArray[np.float32]) -> None:
    """Positive, finite and strictly increasing far beyond the data, at steps that float32 can tell apart."""
    centre = float(scores.mean(dtype=np.float64))
    spread = max(float(scores.std(dtype=np.float64)), 1e-4 * float(np.abs(scores).max()))
    spread = spread if spread > 1e-12 else 1.0
    grid = np.unique((centre + spread * np.linspace(-40, 40, 1601)).astype(np.float32))
    predicted = loss_map(grid)
    assert predicted.dtype == np.float32
    assert np.isfinite(predicted).all()
    assert (predicted > 0).all()
    assert (np.diff(predicted) > 0).all()


ANY_SCORE = st.floats(-1e4, 1e4, width=32)
ANY_LOSS = st.one_of(st.just(0.0), st.floats(2**-10, 1024, width=32))


@given(st.lists(st.tuples(ANY_SCORE, ANY_LOSS), min_size=2, max_size=60))
def test_loss_map_is_sound_for_any_data(pairs: list[tuple[float, float]]) -> None:
    scores, losses = np.array(pairs, np.float32).T
    _assert_sound(fit_loss_map(scores, losses), scores)


@pytest.mark.parametrize(
    ("scores", "losses"),
    [
        ([0.0, 1.0], [1.0, 2.0]),
        ([0.0, 1.0], [2.0, 1.0]),
        ([3.0, 3.0], [1.0, 2.0]),
        ([0.0, 1e-45], [1.0, 2.0]),
        ([0.0, 1e-11], [0.0, 1e6]),
        ([0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]),
        (range(100), [2.5] * 100),
        ([*range(100), 1e4], [*range(101)]),
    ],
    ids=["two", "two reversed", "one score", "subnormal scores", "tiny scores", "no loss", "constant loss", "outlier"],
)
def test_loss_map_is_sound_at_the_corners(scores: list[float], losses: list[float]) -> None:
    points = np.array(scores, np.float32)
    _assert_sound(fit_loss_map(points, losses), points)


def _shuffled(n: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Scores with losses whose mean is exp(score)."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=n).astype(np.float32)
    return scores, rng.gamma(4, np.exp(scores.astype(np.float64)) / 4)


def test_neighbouring_scores_never_change_their_order() -> None:
    loss_map = fit_loss_map(*_shuffled(2000))
    start = np.linspace(-5, 5, 500, dtype=np.float32)
    grid = np.unique(np.concatenate([start, np.nextafter(start, np.float32(9)), loss_map.knots]))
    assert (np.diff(loss_map(grid)) >= 0).all()


def test_loss_map_finds_the_mean_loss_at_every_score() -> None:
    scores, losses = _shuffled(20_000)
    loss_map = fit_loss_map(scores, losses)
    at = np.linspace(-2, 2.5, 10)
    np.testing.assert_allclose(loss_map(at), np.exp(at), rtol=0.15)


def test_loss_map_is_right_on_average() -> None:
    scores, losses = _shuffled(500)
    assert fit_loss_map(scores, losses)(scores).mean() == pytest.approx(losses.mean(), rel=1e-5)


def test_loss_map_does_not_depend_on_the_order_of_the_data() -> None:
    scores, losses = np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 3, 2, 5, 9, 4])
    maps = {fit_loss_map(scores[[*p]], losses[[*p]])(0.7).item() for p in itertools.permutations(range(6))}
    assert len(maps) == 1


def test_tail_goes_on_where_the_data_end() -> None:
    scores = np.linspace(0, 10, 1000)
    loss_map = fit_loss_map(scores, 1 + 2 * scores)
    np.testing.assert_allclose(loss_map([20.0, 40.0]), [41, 81], rtol=0.05)


def test_loss_map_follows_its_documented_formula() -> None:
    loss_map = LossMap(np.array([0, 1], np.float32), np.array([1, 3], np.float32), 0.5, 4.0)
    np.testing.assert_allclose(loss_map([-2.0, 0.0, 0.5, 1.0, 3.0]), [np.exp(-1), 1, 2, 3, 11], rtol=1e-6)


@pytest.mark.parametrize(("scores", "losses"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, -1.0])])
def test_loss_map_refuses_unusable_data(scores: list[float], losses: list[float]) -> None:
    with pytest.raises(ValueError, match="loss"):
        fit_loss_map(scores, losses)


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
