"""log Gamma beside scipy's, and the Dirichlet-multinomial beside its definition."""

import numpy as np
import pytest
from scipy import special, stats

from service.drift.statistics.dirichlet import log_dirichlet_multinomial, log_gamma


def test_log_gamma_is_scipys_to_thirteen_digits() -> None:
    x = np.concatenate([np.exp(np.linspace(-6, 19, 4001)), [0.5, 1.0, 2.0, 7.999, 8.0, 8.001]])
    expected = special.gammaln(x)
    assert np.abs(log_gamma(x) - expected).max() < 1e-8  # of values up to 3e9
    assert (np.abs(log_gamma(x) - expected) / np.maximum(1, np.abs(expected))).max() < 1e-12
    assert float(log_gamma(np.array(0.5))) == pytest.approx(np.log(np.pi) / 2, rel=1e-13)


def test_a_sequence_has_scipys_probability_of_its_counts_without_the_coefficient() -> None:
    alpha, counts = np.array([2.0, 3.5, 0.5]), np.array([4.0, 1.0, 2.0])
    coefficient = special.gammaln(8) - special.gammaln(counts + 1).sum()
    expected = stats.dirichlet_multinomial.logpmf(counts.astype(int), alpha, np.array(7)) - coefficient
    assert float(log_dirichlet_multinomial(counts, alpha)) == pytest.approx(float(expected), rel=1e-12)


def test_a_sequence_has_the_same_probability_at_once_and_in_parts() -> None:
    alpha = np.array([4.0, 4.0, 8.0])
    first, second = np.array([3.0, 0.0, 1.0]), np.array([0.5, 2.0, 0.0])
    parts = log_dirichlet_multinomial(first, alpha) + log_dirichlet_multinomial(second, alpha + first)
    assert float(log_dirichlet_multinomial(first + second, alpha)) == pytest.approx(float(parts), rel=1e-12)
