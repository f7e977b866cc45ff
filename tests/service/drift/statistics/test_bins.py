"""Bins of a reference: the distribution of new values that it implies is exact for every distribution."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from models.contract.manifest import OrderStatistics
from service.drift.statistics.bins import LEVELS, Bins
from tests.service.drift.references import few_bins, normal_bins, order_statistics


def test_edges_are_order_statistics_and_parameters_are_gaps_of_ranks() -> None:
    bins = Bins.of(order_statistics(np.arange(1.0, 100.0)))
    assert bins.edges.tolist() == [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99]
    assert bins.alpha.tolist() == [1, 4, 5, 10, 10, 10, 10, 10, 10, 10, 10, 5, 4, 1]
    assert bins.alpha.sum() == bins.size + 1


def test_probabilities_of_bins_have_the_dirichlet_law_for_a_skewed_distribution() -> None:
    """Each bin's is Beta(alpha, m + 1 - alpha): its mean and variance over 4,000 references of 99."""
    rng = np.random.default_rng(1)
    references = np.sort(rng.exponential(size=(4000, 99)), axis=1)
    made = Bins.of(order_statistics(references[0]))
    ranks = np.cumsum(made.alpha)[:-1].astype(int) - 1
    chances = np.diff(stats.expon.cdf(references[:, ranks]), axis=1, prepend=0.0, append=1.0)
    law = stats.beta(made.alpha, made.alpha.sum() - made.alpha)
    assert chances.mean(axis=0) == pytest.approx(law.mean(), rel=0.1)
    assert chances.var(axis=0) == pytest.approx(law.var(), rel=0.15)


def test_equal_values_make_one_edge_and_a_constant_makes_two_bins() -> None:
    bins = Bins.of(order_statistics(np.repeat([1.0, 2.0], [60, 39])))
    assert bins.edges.tolist() == [1.0, 2.0]
    assert bins.alpha.sum() == 100
    assert len(Bins.of(order_statistics(np.full(50, 7.0))).alpha) == 2


def test_a_reference_of_one_value_has_two_bins() -> None:
    bins = Bins.of(OrderStatistics(size=1, ranks=(1,), values=(0.5,)))
    assert bins.alpha.tolist() == [1, 1]
    assert bins.extreme.tolist() == [False, True]


def test_a_value_at_an_edge_lies_above_it() -> None:
    assert few_bins(3, 3, 4).index(np.array([0.0, 1.0, 1.5, 2.0, 9.0])).tolist() == [0, 1, 1, 2, 2]


def test_normal_scores_are_means_of_a_normal_between_ranks() -> None:
    bins = Bins.of(order_statistics(np.arange(1.0, 1000.0)))
    edges = np.asarray(stats.norm.ppf([0.0, *LEVELS, 1.0])).tolist()
    expected = [stats.truncnorm.mean(low, high) for low, high in pairwise(edges)]
    assert bins.normal_scores == pytest.approx(expected, abs=1e-3)
    assert float(bins.shares @ bins.normal_scores) == pytest.approx(0, abs=1e-12)


def test_extreme_bins_lie_above_the_95_percent_point() -> None:
    bins = normal_bins()
    assert float(bins.shares[bins.extreme].sum()) == pytest.approx(0.05, abs=0.002)
    assert bins.extreme.tolist()[-2:] == [True, True]
    assert not bins.extreme[:-2].any()


def test_shift_is_the_mean_rank_minus_a_half() -> None:
    bins = few_bins(5, 5)
    assert bins.shift(np.array([10.0, 10.0])) == 0
    assert bins.shift(np.array([0.0, 10.0])) == 0.25
    assert bins.shift(np.zeros(2)) == 0
