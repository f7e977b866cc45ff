"""Paired changes: known values, levels on skewed losses, and data from which nothing can be told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.refinement.gates.paired import (
    FEWEST_GROUPS,
    Pairs,
    excess,
    more_groups,
    relative_change,
    tail_contributions,
    weighted_mean,
)


def _pairs(count: int = 300, factor: float = 1.0, noise: float = 0.2, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    live = rng.gamma(2.0, 2.0, count)
    return Pairs.of(live, live * factor * np.exp(noise * rng.standard_normal(count) - noise**2 / 2))


def test_the_relative_change_is_the_ratio_of_weighted_means() -> None:
    pairs = Pairs.of([1.0, 3.0, 5.0], [2.0, 3.0, 4.0], weights=[1.0, 1.0, 2.0])
    assert relative_change(pairs, 0.05).estimate == pytest.approx((2 + 3 + 8) / (1 + 3 + 10) - 1)


def test_the_tail_is_the_mean_of_the_largest_tenth() -> None:
    losses = np.random.default_rng(0).gamma(2.0, 2.0, 300)
    contributions = tail_contributions(losses, np.ones(300))
    assert contributions.mean() == pytest.approx(np.sort(losses)[-30:].mean())


def test_the_tail_counts_weights_as_copies_of_rows() -> None:
    losses = np.random.default_rng(0).gamma(2.0, 2.0, 100)
    copies = np.random.default_rng(1).integers(1, 5, 100)
    weighted = np.average(tail_contributions(losses, copies.astype(float)), weights=copies)
    assert weighted == pytest.approx(tail_contributions(np.repeat(losses, copies), np.ones(copies.sum())).mean())


def test_the_interval_ends_where_the_test_of_a_margin_does() -> None:
    pairs = _pairs(factor=1.01)
    change = relative_change(pairs, 0.05)
    assert excess(pairs, change.high).upper(0.05) == pytest.approx(0, abs=1e-5)
    assert change.low < change.estimate < change.high


def test_rows_of_one_group_count_as_one() -> None:
    pairs = _pairs(200)
    doubled = Pairs.of(np.tile(pairs.live, 2), np.tile(pairs.candidate, 2), np.tile(np.arange(200), 2))
    alone, twice = relative_change(pairs, 0.05), relative_change(doubled, 0.05)
    assert (alone.low, alone.high) == pytest.approx((twice.low, twice.high), rel=1e-3)


def test_a_candidate_at_the_margin_passes_in_about_five_of_a_hundred_rounds() -> None:
    passed = sum(excess(_pairs(200, 1.03, seed=seed), 0.03).upper(0.05) < 0 for seed in range(400))
    assert passed <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_rare_large_losses_are_not_overlooked() -> None:
    """One image in fifty is twice as bad, so that the mean is at the margin: Student's bound alone passes 18 %."""
    passed = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        live = rng.gamma(2.0, 2.0, 200)
        candidate = live * np.where(rng.random(200) < 0.02, 2.0, (1.03 - 0.04) / 0.98)
        passed += excess(Pairs.of(live, candidate), 0.03).upper(0.05) < 0
    assert passed <= 300 * 0.1


def test_equal_losses_change_by_nothing() -> None:
    same = relative_change(Pairs.of([2.0] * 50, [2.0] * 50), 0.05)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_a_live_model_without_any_loss_has_no_relative_change() -> None:
    assert relative_change(Pairs.of([0.0] * 5, [0.0] * 5), 0.05).high == 0
    assert relative_change(Pairs.of([0.0] * 5, [1.0] * 5), 0.05).low == np.inf


def test_one_group_bounds_nothing() -> None:
    change = relative_change(Pairs.of([2.0, 3.0], [1.0, 1.0], ["a", "a"]), 0.05)
    assert (change.low, change.high) == (-np.inf, np.inf)


def test_the_p_value_is_where_the_bound_just_excludes_zero() -> None:
    found = excess(_pairs(factor=1.1), 0.03)
    mirrored = excess(Pairs.of(-_pairs(factor=1.1).live, -_pairs(factor=1.1).candidate), 0.03)
    assert mirrored.upper(found.p_value()) == pytest.approx(0, abs=1e-6)
    assert excess(_pairs(factor=0.9), 0.03).p_value() == 1


def test_as_many_more_groups_as_asked_show_the_change() -> None:
    pairs = _pairs(FEWEST_GROUPS, 1.0, 0.3, seed=7)
    more = more_groups(pairs, 0.03, 0.05)
    assert 0 < more < np.inf
    copies = int(np.ceil((FEWEST_GROUPS + more) / FEWEST_GROUPS))
    larger = Pairs.of(np.tile(pairs.live, copies), np.tile(pairs.candidate, copies))
    assert excess(larger, 0.03).upper(0.05) < 0
    assert more_groups(_pairs(factor=1.1), 0.03, 0.05) == np.inf


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 3)), min_size=1, max_size=30),
    st.floats(0.001, 0.2),
)
def test_no_losses_make_the_statistics_fail(rows: list[tuple[float, float, int]], alpha: float) -> None:
    live, candidate, groups = (np.array(column) for column in zip(*rows, strict=True))
    for pairs in (Pairs.of(live, candidate, groups), Pairs.of(live, candidate, groups).tails()):
        change = relative_change(pairs, alpha)
        assert change.low <= change.estimate <= change.high
        assert 0 <= excess(pairs, 0.03).p_value() <= 1


def test_equal_parts_of_groups_have_no_error() -> None:
    assert weighted_mean(np.full(4, 0.1), np.ones(4), np.arange(4)).error == 0
