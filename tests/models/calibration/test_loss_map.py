"""What calibration promises: budgets that hold, a map that never turns an order around, references that stay finite."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibration.loss_map import (
    LossMap,
    budget_threshold,
    fit_gaussian,
    fit_loss_map,
    order_statistics,
)

REDRAWS = 2000


def test_threshold_is_the_conformal_rank() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 100))
    assert budget_threshold(scores, 0.1) == 90  # ceil(100 * 0.9)
    assert budget_threshold(scores, 0.01) == 99
    assert budget_threshold(scores, 0.29) == 71  # exact although 100 * 0.29 < 29 in floats
    assert budget_threshold(scores, 0.995) == 1


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5, 6), (1, 1, 2, 2, 2, 3), (7, 7, 7, 7, 7, 7)])
@pytest.mark.parametrize("level", [0.17, 0.2, 0.25, 0.5, 0.8])
def test_budget_holds_exactly_over_all_orders_ties_included(values: tuple[int, ...], level: float) -> None:
    orders = [(values[:i] + values[i + 1 :], new) for i, new in enumerate(values)]  # each may be the new one
    flagged = sum(new > budget_threshold(rest, level) for rest, new in orders)
    assert Fraction(flagged, len(orders)) <= Fraction(str(level))
    if len(set(values)) == len(values):  # without ties nothing that the level allows is wasted
        assert flagged == int(Fraction(str(level)) * len(values))


def test_budget_holds_on_average_over_redraws() -> None:
    rng = np.random.default_rng(1)
    flagged = [rng.normal() > budget_threshold(rng.normal(size=59), 0.1) for _ in range(REDRAWS)]
    error = np.std(flagged) / np.sqrt(REDRAWS)
    assert abs(np.mean(flagged) - 0.1) <= 3 * error


@pytest.mark.parametrize(
    ("scores", "level", "says"),
    [
        ([1.0] * 8, 0.1, "at least 9"),
        ([1.0] * 9, 0.0, "between 0 and 1"),
        ([1.0] * 9, 1.0, "between 0 and 1"),
        ([1.0] * 9, float("nan"), "between 0 and 1"),
        ([1.0] * 8 + [float("nan")], 0.1, "NaN"),
        ([], 0.1, "shape"),
        ([[1.0] * 9], 0.1, "shape"),
    ],
)
def test_threshold_refuses_what_carries_no_promise(scores: list[float], level: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        budget_threshold(scores, level)


def test_nine_scores_are_enough_for_a_tenth() -> None:
    assert budget_threshold(np.arange(9), 0.1) == 8


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


@settings(deadline=None)
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


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=80), st.integers(1, 40))
def test_order_statistics_are_the_values_at_their_ranks(values: list[int], bins: int) -> None:
    kept = order_statistics(values, bins)  # its own validation refuses ranks or values out of order
    assert kept.size == len(values)
    assert (kept.ranks[0], kept.ranks[-1]) == (1, len(values))
    assert kept.values == tuple(sorted(values)[rank - 1] for rank in kept.ranks)


def test_order_statistics_reach_into_the_tail() -> None:
    ranks = order_statistics(np.arange(400), 20).ranks
    assert {400, 399, 397, 393, 385} <= set(ranks)
    assert max(b - a for a, b in itertools.pairwise(ranks)) <= 20


def test_distance_is_mahalanobis() -> None:
    rng = np.random.default_rng(4)
    mixing = rng.normal(size=(5, 5))
    reference = rng.normal(size=(50_000, 5)) @ mixing + 3
    new = rng.normal(size=(7, 5)) * 4
    covariance = np.cov(reference.T)
    offset = new - reference.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset))
    np.testing.assert_allclose(fit_gaussian(reference).distance(new), expected, rtol=0.05)


def test_distance_does_not_depend_on_the_unit_of_a_dimension() -> None:
    reference = np.random.default_rng(5).normal(size=(30, 4))
    unit = np.array([1, 10, 1e-3, 1e3])
    np.testing.assert_allclose(
        fit_gaussian(reference * unit).distance(reference * unit),
        fit_gaussian(reference).distance(reference),
        rtol=1e-3,
    )


def test_more_dimensions_than_embeddings_stay_finite() -> None:
    rng = np.random.default_rng(6)
    assert np.isfinite(fit_gaussian(rng.normal(size=(10, 64))).distance(rng.normal(size=(100, 64)))).all()


def test_leaving_a_constant_dimension_counts() -> None:
    reference = np.random.default_rng(7).normal(size=(200, 3)) * [1, 1, 0]
    near, far = fit_gaussian(reference).distance(np.array([[0.0, 0, 0], [0.0, 0, 5]]))
    assert np.isfinite(far)
    assert far > near + 5


def test_constant_embeddings_are_a_reference_too() -> None:
    distance = fit_gaussian(np.ones((5, 3))).distance(np.array([[1.0, 1, 1], [2.0, 1, 1]]))
    assert distance[0] == 0
    assert 0 < distance[1] < np.inf


@pytest.mark.parametrize("embeddings", [np.ones((1, 3)), np.ones(3), np.full((3, 2), np.nan)])
def test_gaussian_refuses_unusable_embeddings(embeddings: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="embeddings"):
        fit_gaussian(embeddings)
