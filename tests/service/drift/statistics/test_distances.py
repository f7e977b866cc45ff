"""KS distance and PSI, and what PSI is without drift."""

import numpy as np
import pytest

from service.drift.statistics import distances
from tests.service.drift.references import few_bins, normal_bins


def test_the_ks_distance_is_the_largest_gap_at_an_edge() -> None:
    bins = few_bins(5, 5, 5, 5)
    assert distances.ks_distance(bins, np.array([10.0, 10.0, 10.0, 10.0])) == 0
    assert distances.ks_distance(bins, np.array([0.0, 20.0, 0.0, 20.0])) == pytest.approx(0.25)
    assert distances.ks_distance(bins, np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)


def test_psi_is_the_symmetric_divergence_and_finite_for_empty_bins() -> None:
    bins = few_bins(50, 50)
    assert distances.psi(bins, np.array([59.5, 39.5])) == pytest.approx(0.1 * np.log(0.6 / 0.4))
    assert np.isfinite(distances.psi(bins, np.array([1000.0, 0.0])))


@pytest.mark.parametrize("n", [500, 5000])
def test_without_drift_psi_is_on_average_what_its_null_says(n: int) -> None:
    rng, bins = np.random.default_rng(0), normal_bins(m=1000)
    found = [distances.psi(bins, rng.multinomial(n, rng.dirichlet(bins.alpha)).astype(float)) for _ in range(400)]
    assert np.mean(found) == pytest.approx(distances.psi_null(bins, n), rel=0.15)


def test_an_empty_window_shows_nothing() -> None:
    bins, nothing = few_bins(5, 5), np.zeros(2)
    assert distances.window_shares(nothing).tolist() == [0, 0]
    assert distances.psi(bins, nothing) == distances.ks_distance(bins, nothing) == distances.psi_null(bins, 0) == 0
