import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.analysis.gamma_fit import fit_gamma


@pytest.mark.parametrize(("k", "theta"), [(0.2, 3.0), (1.0, 1e-6), (4.0, 0.0666), (300.0, 1e6)])
def test_the_law_behind_the_losses_is_found(k: float, theta: float) -> None:
    fit = fit_gamma(np.random.default_rng(0).gamma(k, theta, size=20_000), redraws=9)
    assert fit.k == pytest.approx(k, rel=0.05)
    assert fit.k * fit.theta == pytest.approx(k * theta, rel=0.05)
    assert fit.n == 20_000
    assert fit.ks_distance < 0.015


def test_it_is_the_maximum_of_the_likelihood() -> None:
    losses = np.random.default_rng(1).lognormal(size=500)
    fit = fit_gamma(losses, redraws=1)
    k, _, theta = stats.gamma.fit(losses, floc=0)
    assert (fit.k, fit.theta) == pytest.approx((k, theta), rel=1e-4)


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    losses = np.random.default_rng(2).lognormal(size=300)
    fit = fit_gamma(losses, redraws=1)
    expected = stats.kstest(losses, stats.gamma(fit.k, scale=fit.theta).cdf).statistic
    assert fit.ks_distance == pytest.approx(expected, abs=1e-12)


def test_gamma_losses_are_rarely_rejected() -> None:
    rng = np.random.default_rng(3)
    p_values = np.array([fit_gamma(rng.gamma(2.0, size=60), redraws=39, seed=i).p_value for i in range(120)])
    # Under the law p is uniform; 3 standard errors of 120 draws at .2 are .11.
    assert np.mean(p_values <= 0.2) == pytest.approx(0.2, abs=0.11)
    assert p_values.mean() == pytest.approx(0.5, abs=0.08)


def test_losses_with_two_humps_are_rejected() -> None:
    rng = np.random.default_rng(4)
    fit = fit_gamma(np.concatenate([rng.normal(1, 0.05, 200), rng.normal(5, 0.05, 200)]), redraws=99)
    assert fit.p_value == pytest.approx(0.01)
    assert fit.ks_distance > 0.2


@given(unit=st.floats(1e-200, 1e200))
def test_the_unit_of_the_losses_changes_nothing_but_theta(unit: float) -> None:
    losses = np.array([0.3, 1.1, 2.0, 4.5, 0.9])
    ours, scaled = fit_gamma(losses, redraws=5), fit_gamma(losses * unit, redraws=5)
    assert scaled.k == pytest.approx(ours.k, rel=1e-6)
    assert scaled.theta == pytest.approx(ours.theta * unit, rel=1e-6)
    assert scaled.ks_distance == pytest.approx(ours.ks_distance, abs=1e-6)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([2.0, 2.0, 2.0], "all equal"),
        ([2.0, 2.0, 2.0 + 1e-9], "nearly so"),
        ([1.0, 0.0, 2.0], "0 are negative and 1 are zero of 3"),
        ([1.0, -1.0, 2.0], "1 are negative and 0 are zero of 3"),
        ([1.0, math.nan, 2.0], "1 are NaN or infinite"),
        ([1.0, math.inf, math.nan], "2 are NaN or infinite"),
        ([1.0, 2.0], "at least 3"),
        ([[1.0, 2.0, 3.0]], "one column"),
    ],
)
def test_losses_that_no_gamma_law_has_are_refused_with_the_reason(losses: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_gamma(losses)


def test_a_p_value_needs_a_redraw() -> None:
    with pytest.raises(ValueError, match="redraws"):
        fit_gamma([1.0, 2.0, 3.0], redraws=0)
