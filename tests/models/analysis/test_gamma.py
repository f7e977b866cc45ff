import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import integrate, special

from models.analysis import gamma
from models.analysis.gamma import (
    expected_learning_loss_gradient,
    expected_learning_loss_pp_gradient,
    expected_pair_target,
    similar_loss_probability,
)

SEPARATIONS = np.concatenate([[0.0], np.logspace(-6, 2, 60)])  # delta / theta
SHAPES = st.one_of(st.integers(1, 40).map(float), st.floats(0.05, 40))
DELTAS = st.one_of(st.just(0.0), st.floats(1e-290, 200))  # smaller ones become 0 when their unit changes


@pytest.mark.parametrize("k", range(1, 21))
def test_closed_forms_and_quadrature_agree_to_nine_digits(k: int) -> None:
    similar, share = gamma._similar_closed(SEPARATIONS, k), gamma._lower_share_closed(SEPARATIONS, k)
    np.testing.assert_allclose(similar, gamma._similar_quadrature(SEPARATIONS, k), rtol=0, atol=1e-11)
    np.testing.assert_allclose(share, gamma._lower_share_quadrature(SEPARATIONS, k), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("k", [0.6, 1, 2.5, 4, 7.3, 20])
@pytest.mark.parametrize("delta", [0.03, 0.9, 6.0, 40.0])
def test_the_probability_is_the_area_under_the_bessel_density_of_the_difference(k: float, delta: float) -> None:
    """The density of X - Y is |t|^(k-1/2) K_(k-1/2)(|t|) / (sqrt(pi) Gamma(k) 2^(k-1/2)), a third way to compute it."""
    order = k - 0.5
    scale = 2 / (math.sqrt(math.pi) * special.gamma(k) * 2**order)
    area, _ = integrate.quad(lambda t: t**order * special.kv(order, t), 0, delta, epsabs=1e-12, epsrel=1e-12, limit=200)
    assert similar_loss_probability(delta * 3, k, 3.0) == pytest.approx(scale * area, abs=1e-9)


@pytest.mark.parametrize("k", [0.3, 1, 2.5, 4])
def test_random_pairs_are_as_often_alike_as_the_law_says(k: float) -> None:
    n = 200_000
    x, y = np.random.default_rng(0).gamma(k, 2.0, size=(2, n))
    deltas = np.array([0.1, 1.0, 4.0])
    law = similar_loss_probability(deltas, k, 2.0)
    found = (np.abs(x - y) <= deltas[:, None]).mean(1)
    np.testing.assert_array_less(np.abs(found - law), 5 * np.sqrt(law * (1 - law) / n))


@pytest.mark.parametrize("k", [0.8, 1, 2.5, 4])
def test_random_pairs_at_a_separation_share_their_loss_as_the_law_says(k: float) -> None:
    x, y = np.random.default_rng(1).gamma(k, size=(2, 2_000_000))
    for delta in (-2.0, -0.5, 1.0):
        near = np.abs(x - y - delta) < 0.01
        shares = (x / (x + y))[near]
        error = 5 * shares.std() / math.sqrt(shares.size) + 0.01
        assert expected_pair_target(delta, k, 1.0) == pytest.approx(shares.mean(), abs=error)


@pytest.mark.parametrize("k", [1e-12, 1e-3, 0.3, 1, 4, 64, 65, 1e5, 1e15])
def test_extreme_separations_have_their_limits(k: float) -> None:
    delta = np.array([0.0, 1e-300, 1.7e308, math.inf])
    np.testing.assert_allclose(similar_loss_probability(delta, k, 1.0)[[0, 2, 3]], [0, 1, 1], atol=1e-12)
    share = expected_pair_target(np.concatenate([delta, -delta]), k, 1.0)
    assert np.isfinite(share).all()
    np.testing.assert_allclose(share[[0, 2, 3, 4, 6, 7]], [0.5, 1, 1, 0.5, 0, 0], atol=1e-12)
    if k >= 1:
        np.testing.assert_allclose(share[[1, 5]], 0.5, atol=1e-9)


def test_a_large_shape_is_the_normal_law() -> None:
    k = 1e6
    delta = np.array([10.0, 1000.0, 3000.0])
    np.testing.assert_allclose(
        similar_loss_probability(delta, k, 1.0), special.erf(delta / (2 * math.sqrt(k))), atol=1e-6
    )
    np.testing.assert_allclose(expected_pair_target(delta, k, 1.0), 0.5 + delta / (4 * k), rtol=1e-6)


def test_the_share_of_exponential_losses_is_one_exponential_integral() -> None:
    delta = np.array([0.1, 1.0, 5.0])
    by_hand = (1 - delta * np.exp(delta) * special.exp1(delta)) / 2  # of the better loss, k = 1
    np.testing.assert_allclose(expected_pair_target(-delta, 1, 1.0), by_hand, rtol=1e-12)


@given(k=SHAPES, deltas=st.lists(DELTAS, min_size=2, max_size=8))
def test_a_larger_distance_is_more_probable_and_has_a_larger_share(k: float, deltas: list[float]) -> None:
    ordered = np.sort(deltas)
    similar, share = similar_loss_probability(ordered, k, 1.0), expected_pair_target(ordered, k, 1.0)
    assert (np.diff(similar) >= -1e-10).all()
    assert (np.diff(share) >= -1e-10).all()
    assert ((similar >= 0) & (similar <= 1) & (share >= 0.5) & (share <= 1)).all()


@example(k=0.5, delta=0.125, unit=1.0)  # the mode lies beside log(delta), a float apart
@given(k=SHAPES, delta=DELTAS, unit=st.floats(1e-6, 1e6))
def test_the_unit_of_the_loss_cancels_and_the_shares_of_a_pair_add_up_to_one(
    k: float, delta: float, unit: float
) -> None:
    assert similar_loss_probability(delta * unit, k, unit) == pytest.approx(
        similar_loss_probability(delta, k, 1.0), abs=1e-9
    )
    total = expected_pair_target(delta * unit, k, unit) + expected_pair_target(-delta, k, 1.0)
    assert total == pytest.approx(1, abs=1e-9)


@given(k=st.integers(1, 20), delta=DELTAS)
def test_nothing_jumps_between_the_closed_form_and_the_quadrature(k: int, delta: float) -> None:
    nearly = k * (1 + 1e-12)
    assert similar_loss_probability(delta, k, 1.0) == pytest.approx(
        similar_loss_probability(delta, nearly, 1.0), abs=1e-9
    )
    assert expected_pair_target(delta, k, 1.0) == pytest.approx(expected_pair_target(delta, nearly, 1.0), abs=1e-9)


def test_results_have_the_shape_of_delta() -> None:
    for k in (2, 2.5):
        assert similar_loss_probability(np.ones((2, 3)), k, 1.0).shape == (2, 3)
        assert expected_pair_target(np.ones((2, 0)), k, 1.0).shape == (2, 0)
        assert expected_pair_target(1.0, k, 1.0).shape == ()


def test_learning_loss_pushes_a_nearly_equal_pair_as_hard_as_a_distant_one() -> None:
    np.testing.assert_array_equal(expected_learning_loss_gradient([1e-9, 5.0, -1e-9, -5.0], 0.0), [-1, -1, 1, 1])
    np.testing.assert_array_equal(expected_learning_loss_gradient([1e-9, 0.0, -2.0], [1.5, 0.5, -1.5]), 0)


def test_learning_loss_pp_fades_as_two_losses_become_alike() -> None:
    gradient = -expected_learning_loss_pp_gradient(np.array([1e-9, 0.1, 1.0, 100.0]), 0.0, 4, 0.5)
    assert (np.diff(gradient) > 0).all()
    assert gradient[0] == pytest.approx(0, abs=1e-8)
    assert gradient[-1] == pytest.approx(0.5, abs=0.05)


@given(k=SHAPES, delta=st.floats(-30, 30))
def test_learning_loss_pp_has_no_gradient_once_the_scores_give_the_expected_share(k: float, delta: float) -> None:
    gap = special.logit(expected_pair_target(delta, k, 1.0))
    assert expected_learning_loss_pp_gradient(delta, gap, k, 1.0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("delta", "k", "theta", "message"),
    [
        (math.nan, 4, 1.0, "delta holds NaN"),
        (1.0, 0, 1.0, "k must be positive"),
        (1.0, math.nan, 1.0, "k must be positive"),
        (1.0, math.inf, 1.0, "k must be positive"),
        (1.0, 4, -1.0, "theta must be positive"),
        (1.0, 4, math.nan, "theta must be positive"),
    ],
)
def test_arguments_outside_the_law_are_refused_by_name(delta: float, k: float, theta: float, message: str) -> None:
    for function in (similar_loss_probability, expected_pair_target):
        with pytest.raises(ValueError, match=message):
            function(delta, k, theta)


def test_a_negative_distance_and_a_margin_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        similar_loss_probability([0.1, -0.1], 4, 1.0)
    with pytest.raises(ValueError, match="margin"):
        expected_learning_loss_gradient(1.0, 0.0, margin=0.0)
    with pytest.raises(ValueError, match="score_gap holds NaN"):
        expected_learning_loss_pp_gradient(1.0, math.nan, 4, 1.0)
