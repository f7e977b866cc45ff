"""The figures against hand-computed values, brute force, scipy and scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from models.evaluation.metrics import (
    augrc,
    aurc,
    auroc,
    bootstrap_interval,
    calibration_error,
    decile_errors,
    false_positive_rate,
    normalised_aurc,
    oracle_aurc,
    rank_correlation,
    rank_correlation_within,
    recall_and_precision,
    risk_at_coverage,
    risk_coverage,
    share_of_oracle_cut,
)

COLUMNS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 9)), min_size=1, max_size=30)
FEW = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=6)


def test_risk_coverage_by_hand() -> None:
    coverage, risk = risk_coverage([0.3, 0.1, 0.2, 0.9], [2.0, 1.0, 3.0, 6.0])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == [1.0, 2.0, 2.0, 3.0]


def test_areas_by_hand() -> None:
    scores, losses = [0.3, 0.1, 0.2, 0.9], [2.0, 1.0, 3.0, 6.0]
    assert aurc(scores, losses) == 2.0  # (1 + 2 + 2 + 3) / 4
    assert augrc(scores, losses) == 1.4375  # (1 + 4 + 6 + 12) / 4 / 4
    assert oracle_aurc(losses) == 1.875  # (1 + 1.5 + 2 + 3) / 4
    assert normalised_aurc(scores, losses) == pytest.approx((2 - 1.875) / (3 - 1.875))


@given(FEW)
def test_ties_count_as_the_mean_over_their_orders(rows: list[tuple[int, int]]) -> None:
    scores, losses = np.array(rows, float).T
    orders = [[*order] for order in itertools.permutations(range(len(rows)))]
    fitting = [order for order in orders if (np.diff(scores[order]) >= 0).all()]
    curves = [np.cumsum(losses[order]) / np.arange(1, len(rows) + 1) for order in fitting]
    np.testing.assert_allclose(risk_coverage(scores, losses)[1], np.mean(curves, axis=0), atol=1e-12)


@given(FEW)
def test_no_order_beats_the_oracle(rows: list[tuple[int, int]]) -> None:
    losses = np.array(rows, float).T[1]
    orders = np.array([*itertools.permutations(range(len(rows)))])
    risks = losses[orders].cumsum(axis=1) / np.arange(1, len(rows) + 1)  # [orders, n]
    assert aurc(orders[0], losses) == pytest.approx(risks[0].mean(), abs=1e-12)
    assert oracle_aurc(losses) == pytest.approx(risks.mean(axis=1).min(), abs=1e-12)


def test_normalised_aurc_is_zero_for_the_oracle_and_one_for_random() -> None:
    rng = np.random.default_rng(0)
    losses = rng.gamma(2, size=500)
    assert normalised_aurc(losses, losses) == 0
    assert normalised_aurc(np.zeros(500), losses) == pytest.approx(1)
    shuffled = [normalised_aurc(rng.permutation(500), losses) for _ in range(400)]
    assert np.mean(shuffled) == pytest.approx(1, abs=4 * float(np.std(shuffled)) / 20)
    assert normalised_aurc(-losses, losses) > 1


def test_figures_depend_on_the_order_of_scores_alone() -> None:
    rng = np.random.default_rng(1)
    scores, losses = rng.normal(size=200), rng.gamma(2, size=200)
    for statistic in (aurc, augrc, rank_correlation, normalised_aurc):
        assert statistic(np.exp(scores), losses) == pytest.approx(statistic(scores, losses), abs=1e-12)


def test_risk_at_coverage_keeps_the_lowest_scores() -> None:
    scores, losses = np.arange(10), np.arange(10) ** 2
    assert risk_at_coverage(scores, losses, 0.8) == np.mean(losses[:8])
    assert risk_at_coverage(scores, losses, 0.75) == np.mean(losses[:8])  # rounded up to whole examples
    assert risk_at_coverage(scores, losses, 1.0) == np.mean(losses)
    assert risk_at_coverage(scores, losses, 1e-6) == 0
    for coverage in (0.0, 1.1):
        with pytest.raises(ValueError, match="coverage"):
            risk_at_coverage(scores, losses, coverage)


@given(COLUMNS)
def test_rank_correlation_is_spearman(rows: list[tuple[int, int]]) -> None:
    scores, losses = np.array(rows, float).T
    if np.ptp(scores) and np.ptp(losses):
        assert rank_correlation(scores, losses) == pytest.approx(spearmanr(scores, losses).statistic, abs=1e-12)
    else:
        assert np.isnan(rank_correlation(scores, losses))


def test_knowing_the_group_gives_no_rank_correlation_within_groups() -> None:
    rng = np.random.default_rng(2)
    strata = rng.integers(0, 10, 3000)
    losses = strata + rng.random(3000)
    assert rank_correlation(strata, losses) > 0.9
    scores = strata + 0.1 * rng.random(3000)  # knows the group, and nothing more
    assert rank_correlation(scores, losses) > 0.9
    assert abs(rank_correlation_within(scores, losses, strata)) < 0.1
    assert rank_correlation_within(losses, losses, strata) == pytest.approx(1)


def test_correlation_within_groups_weighs_by_size_and_leaves_out_groups_without_order() -> None:
    scores = [1, 2, 3, 1, 2, 5, 7, 7]
    losses = [1, 2, 3, 2, 1, 9, 1, 2]
    strata = [0, 0, 0, 1, 1, 2, 3, 3]  # right order, wrong order, alone, tied
    assert rank_correlation_within(scores, losses, strata) == pytest.approx((2 * 1 + 1 * -1) / 3)
    assert np.isnan(rank_correlation_within([1, 2], [1, 2], [0, 1]))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_auroc_is_that_of_sklearn(rows: list[tuple[int, bool]]) -> None:
    scores, failures = [row[0] for row in rows], [row[1] for row in rows]
    if len(set(failures)) == 2:
        assert auroc(scores, failures) == pytest.approx(roc_auc_score(failures, scores), abs=1e-12)
    else:
        assert np.isnan(auroc(scores, failures))


def test_calibration_error_is_zero_for_the_truth_and_the_offset_for_a_shift() -> None:
    losses = np.random.default_rng(3).gamma(2, size=1000)
    assert calibration_error(losses, losses) == pytest.approx(0, abs=1e-12)
    assert calibration_error(losses + 0.5, losses) == pytest.approx(0.5)
    assert calibration_error(np.full(1000, losses.mean()), losses) == pytest.approx(0, abs=1e-12)
    assert calibration_error(losses.mean() * 2 - losses, losses) > 0.5  # right on average, wrong everywhere


def test_interval_covers_the_truth_as_often_as_it_says_when_views_repeat() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(200):
        per_source = rng.normal(size=60)
        losses, sources = np.repeat(per_source, 5), np.repeat(np.arange(60), 5)
        low, high = bootstrap_interval(lambda _, y: float(y.mean()), np.zeros(300), losses, sources, redraws=100)
        covered.append(low <= 0 <= high)
    assert 0.86 <= np.mean(covered) <= 1  # rows redrawn one by one would cover 62 %


def test_the_false_positive_rate_counts_successes_above_the_threshold_that_catches_enough() -> None:
    scores, failed = np.arange(10.0), np.arange(10) >= 8
    assert false_positive_rate(scores, failed) == 0
    assert false_positive_rate(-scores, failed) == 1
    assert np.isnan(false_positive_rate(scores, np.zeros(10, bool)))


def test_a_budget_finds_failures_in_the_order_of_the_scores() -> None:
    scores, failed = np.arange(10.0), np.arange(10) >= 6
    assert recall_and_precision(scores, failed, 0.2) == (0.5, 1.0)
    assert recall_and_precision(np.zeros(10), failed, 0.5) == pytest.approx((0.5, 0.4))


def test_the_share_of_the_oracles_cut_is_one_for_the_oracle_and_zero_at_random() -> None:
    losses = np.random.default_rng(0).gamma(2, 1, 100)
    assert share_of_oracle_cut(losses, losses) == pytest.approx(1)
    assert share_of_oracle_cut(np.zeros(100), losses) == pytest.approx(0)


def test_decile_errors_are_relative_and_signed() -> None:
    losses = np.linspace(0.1, 1, 100)
    assert decile_errors(1.2 * losses, losses).tolist() == pytest.approx([0.2] * 10)


@pytest.mark.parametrize(
    ("scores", "losses"),
    [([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0], [1.0, float("nan")]), ([[1.0]], [[1.0]]), ([], [])],
)
def test_unusable_columns_are_refused(scores: list[float], losses: list[float]) -> None:
    with pytest.raises(ValueError, match="scores"):
        aurc(scores, losses)
