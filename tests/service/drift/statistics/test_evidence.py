"""Evidence is a martingale under the null, exactly; it exceeds 100 as rarely as Ville says; and it finds changes."""

import json
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from service.drift.statistics import evidence
from service.drift.statistics.bins import LEVELS, Bins
from service.drift.statistics.dirichlet import log_dirichlet_multinomial
from service.drift.statistics.evidence import Evidence
from tests.service.drift.references import few_bins, normal_bins

SHARE = 1 / 288  # of a day: 5 minutes
Floats = NDArray[np.float64]


def follow(bins: Bins, flushes: list[Floats], design_effect: float = 1.0) -> Evidence:
    state = Evidence.fresh(bins, flushes[0].shape[:-1])
    for counts in flushes:
        state = evidence.update(state, bins, counts, design_effect=design_effect, share=SHARE)
    return state


def all_sequences(bins: Bins, n: int) -> tuple[Floats, Floats]:
    """Every sequence of n bins as one-hot counts [k, n, b], with its probability under the reference [k]."""
    b = len(bins.alpha)
    one_hot = np.eye(b)[list(product(range(b), repeat=n))]
    return one_hot, np.exp(log_dirichlet_multinomial(one_hot.sum(axis=1), np.broadcast_to(bins.alpha, (b**n, b))))


@pytest.mark.parametrize("flushes", [[1] * 6, [2, 1, 3], [6]])
def test_its_expectation_is_one_over_all_that_a_reference_of_nine_can_bring(flushes: list[int]) -> None:
    """Enumerated: all 729 sequences of six observations in three bins, however they are flushed."""
    bins = few_bins(2, 5, 3)
    sequences, chances = all_sequences(bins, sum(flushes))
    assert chances.sum() == pytest.approx(1, rel=1e-12)
    ends = np.cumsum(flushes)
    counts = [sequences[:, end - n : end].sum(axis=1) for n, end in zip(flushes, ends, strict=True)]
    assert chances @ 10 ** follow(bins, counts).log10 == pytest.approx(1, rel=1e-10)


def test_its_expectation_given_the_past_is_what_it_was() -> None:
    bins = few_bins(2, 5, 3)
    before = follow(bins, [np.array([2.0, 1.0, 4.0]), np.array([0.0, 0.0, 3.0])])
    chances = (bins.alpha + before.counts) / (bins.alpha + before.counts).sum()
    after = [evidence.update(before, bins, one, design_effect=1.0, share=SHARE).log10 for one in np.eye(3)]
    assert float(chances @ 10 ** np.array(after)) == pytest.approx(10 ** float(before.log10), rel=1e-10)


def test_weighed_by_a_design_effect_it_is_a_supermartingale_where_the_reference_is_sure() -> None:
    """Independent observations that are taken for dependent ones: evidence can only be less (Jensen)."""
    bins = few_bins(2e6, 5e6, 3e6)
    sequences, chances = all_sequences(bins, 6)
    state = follow(bins, list(sequences.swapaxes(0, 1)), design_effect=3.0)
    assert 0.5 < chances @ 10**state.log10 < 1 - 1e-9


def test_clips_of_repeats_count_once_each_exactly() -> None:
    bins, rng = normal_bins(), np.random.default_rng(0)
    once = [rng.multinomial(7, bins.shares).astype(float) for _ in range(20)]
    repeated = follow(bins, [12 * counts for counts in once], design_effect=12.0)
    assert float(repeated.log10) == pytest.approx(float(follow(bins, once).log10), rel=1e-9)


def chances_of(references: Floats, bins: Bins, shift: float = 0.0) -> Floats:
    """Bin probabilities of standard normal traffic by reference. references: [n, m], sorted."""
    ranks = np.cumsum(bins.alpha)[:-1].astype(int) - 1
    return np.diff(stats.norm.cdf(references[:, ranks] - shift), axis=1, prepend=0.0, append=1.0)


@pytest.mark.slow
def test_it_exceeds_a_hundred_in_at_most_one_of_a_hundred_days() -> None:
    """600 references of 400, a day of 288 flushes of 50 each: six days at most by Ville; and ten, sixty at most."""
    rng, bins = np.random.default_rng(2), normal_bins()
    chances = chances_of(np.sort(rng.standard_normal((600, 400)), axis=1), bins)
    state, largest = Evidence.fresh(bins, (600,)), np.zeros(600)
    for _ in range(288):
        state = evidence.update(state, bins, rng.multinomial(50, chances), design_effect=1.0, share=SHARE)
        largest = np.maximum(largest, state.log10)
    assert (largest >= 2).sum() <= 6
    assert (largest >= 1).sum() <= 60
    assert state.spent == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("quiet_flushes", [0, 100])
def test_it_finds_half_a_standard_deviation_within_three_hundred(quiet_flushes: int) -> None:
    rng, bins = np.random.default_rng(3), normal_bins()
    references = np.sort(rng.standard_normal((60, 400)), axis=1)
    state, found = Evidence.fresh(bins, (60,)), np.full(60, np.inf)
    for i in range(-quiet_flushes, 60):
        chances = chances_of(references, bins, 0.5 if i >= 0 else 0.0)
        state = evidence.update(state, bins, rng.multinomial(10, chances), design_effect=1.0, share=SHARE)
        found = np.where(np.isinf(found) & (state.log10 >= 2), 10 * (i + 1), found)
    assert (found > 0).all()
    assert np.median(found) <= 300


def test_a_small_difference_that_was_learned_does_not_hide_a_large_change() -> None:
    """Hours of traffic a tenth of a standard deviation off the reference, then one whole."""
    rng, bins = np.random.default_rng(4), normal_bins()
    reference = np.sort(np.random.default_rng(0).standard_normal((1, 400)), axis=1)
    quiet, moved = (chances_of(reference, bins, shift)[0] for shift in (0.1, 1.1))
    state = follow(bins, [rng.multinomial(100, quiet).astype(float) for _ in range(200)])
    assert float(state.log10) < 2
    state = evidence.update(state, bins, rng.multinomial(60, moved), design_effect=1.0, share=SHARE)
    assert float(state.log10) > 2


def test_nothing_new_changes_nothing_but_what_is_left_to_start() -> None:
    bins = normal_bins()
    state = follow(bins, [np.zeros(14)] * 5)
    assert float(state.log10) == pytest.approx(0, abs=1e-12)
    assert float(state.spent) == pytest.approx(evidence.AT_RESTART + 0.9 * 5 * SHARE)


def test_the_average_over_signals_is_the_mean_of_martingales() -> None:
    values = np.log10(np.array([[4.0, 1.0], [1.0, 1.0], [1.0, 7.0]]))
    assert 10 ** evidence.average(values) == pytest.approx([2, 3])


def test_a_signal_is_named_at_the_level_of_all_of_them() -> None:
    assert evidence.named(np.array([2.2, 2.4, 0.0, -1.0]), 2.0).tolist() == [False, False, False, False]
    assert evidence.named(np.array([2.2, 2.7, 0.0, -1.0]), 2.0).tolist() == [False, True, False, False]


def test_a_state_survives_json_with_its_infinities() -> None:
    bins = normal_bins()
    for state in (Evidence.fresh(bins), follow(bins, [np.ones(14)] * 3)):
        text = json.dumps(state.to_json(), allow_nan=False)
        back = Evidence.from_json(json.loads(text))
        assert json.dumps(back.to_json()) == text
        assert back.base.shape == (evidence.TILTS, 14)
        after = [evidence.update(one, bins, np.ones(14), design_effect=1.0, share=SHARE) for one in (state, back)]
        assert float(after[0].log10) == float(after[1].log10)


def shares(loc: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.diff(stats.norm.cdf(stats.norm.ppf(LEVELS), loc, scale), prepend=0.0, append=1.0)


def test_location_tilts_shift_a_normal_by_so_many_standard_deviations() -> None:
    bins = normal_bins(m=9999)
    made = evidence.tilted(shares(), evidence.tilt_exponents(bins.normal_scores))
    for theta, tilt in zip(evidence.LOCATIONS, made, strict=False):
        if abs(theta) <= 0.5:
            assert tilt == pytest.approx(shares(theta), abs=0.01)
        assert np.sign(tilt @ bins.normal_scores) == np.sign(theta)


def test_spread_tilts_change_the_variance() -> None:
    bins = normal_bins(m=9999)
    narrow, wide = evidence.tilted(shares(), evidence.tilt_exponents(bins.normal_scores))[-2:]
    assert narrow == pytest.approx(shares(scale=0.5**0.5), abs=0.02)
    assert wide @ bins.normal_scores**2 > 1.4
    assert narrow.sum() == pytest.approx(1)
