"""The design effect agrees with closed forms: independent values, autoregressive ones, clips of repeats."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from service.drift.statistics import dependence
from service.drift.statistics.dependence import BLOCK, SIZE
from tests.service.drift.references import normal_bins

BINS = normal_bins(m=2000)
Floats = NDArray[np.float64]


def independent(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_normal(n)


def autoregressive(rng: np.random.Generator, n: int) -> Floats:
    made: Floats = lfilter([np.sqrt(1 - 0.9**2)], [1, -0.9], rng.standard_normal(n + 200))[200:]
    return made


def clips(rng: np.random.Generator, n: int) -> Floats:
    return np.repeat(rng.standard_normal(n // 12 + 1), 12)[:n]


def statistics(values: Floats) -> Floats:
    blocks, rest = dependence.cut(BINS.normal_scores[BINS.index(values)])
    assert len(rest) == len(values) % BLOCK
    return dependence.statistics(blocks)


def estimate(values: Floats, replicas: float = 1.0) -> float:
    return float(dependence.design_effect(statistics(values), BINS, replicas))


@pytest.mark.parametrize(("make", "expected"), [(independent, 1), (autoregressive, 19), (clips, 12)])
@pytest.mark.parametrize(("blocks", "above"), [(500, 1.3), (40, 2.2)])
def test_it_is_one_plus_twice_the_sum_of_autocorrelations_or_above_while_blocks_are_few(
    make: Callable[[np.random.Generator, int], Floats], expected: float, blocks: int, above: float
) -> None:
    rng = np.random.default_rng(0)
    estimates = [estimate(make(rng, blocks * BLOCK)) for _ in range(20)]
    assert 0.99 * expected <= np.median(estimates) <= above * expected
    assert min(estimates) >= max(1, 0.85 * expected)


def test_few_pairs_are_not_trusted_by_the_quantile_of_a_chi_squared() -> None:
    n = np.array([16.0, 32.0, 100.0, 1000.0])
    assert dependence._low_quantile(n) == pytest.approx(stats.chi2.ppf(0.005, n) / n, rel=0.015)


@pytest.mark.parametrize("make", [autoregressive, clips])
def test_replicas_that_share_traffic_in_turn_find_the_same_design_effect_together(
    make: Callable[[np.random.Generator, int], Floats],
) -> None:
    """Each replica sees every third image, so the estimate of one alone is too small."""
    values = make(np.random.default_rng(1), 600 * BLOCK)
    added = sum((statistics(values[i::3]) for i in range(3)), np.zeros(SIZE))
    apart, together = (float(dependence.design_effect(added, BINS, replicas)) for replicas in (1.0, 3.0))
    assert apart < 0.6 * estimate(values)
    assert together == pytest.approx(estimate(values), rel=0.25)


@pytest.mark.parametrize("blocks", [2, 16, 100])
def test_independent_traffic_counts_about_equally_over_many_replicas_and_over_one(blocks: int) -> None:
    rng = np.random.default_rng(6)
    values = [independent(rng, blocks * BLOCK) for _ in range(40)]
    one, five, twenty = (np.median([estimate(each, replicas) for each in values]) for replicas in (1.0, 5.0, 20.0))
    assert one == pytest.approx(1, abs=0.8)
    assert five == pytest.approx(one, rel=0.2)
    assert twenty == pytest.approx(one, rel=0.2)


def test_statistics_add_up_over_flushes() -> None:
    values = independent(np.random.default_rng(2), 8 * BLOCK)
    parts = statistics(values[: 3 * BLOCK]) + statistics(values[3 * BLOCK :])
    assert parts == pytest.approx(statistics(values))
    assert parts[0] == 8


def test_a_shift_of_level_is_not_taken_for_dependence() -> None:
    """A plain variance of means of 256 would say 1 + 256 / 4 = 65."""
    values = independent(np.random.default_rng(3), 400 * BLOCK)
    values[200 * BLOCK + 100 :] += 1.0
    assert estimate(values) < 2.5


def test_it_is_known_from_the_second_block_on_even_if_blocks_come_one_by_one() -> None:
    one = statistics(independent(np.random.default_rng(4), BLOCK))
    assert not dependence.is_known(np.zeros(SIZE))
    assert not dependence.is_known(dependence.update(np.zeros(SIZE), one))
    assert dependence.is_known(dependence.update(dependence.update(np.zeros(SIZE), one), one))


def test_old_observations_lose_their_weight() -> None:
    rng = np.random.default_rng(5)
    state = statistics(autoregressive(rng, 400 * BLOCK))
    for _ in range(60):
        state = dependence.update(state, statistics(independent(rng, 50 * BLOCK)))
    assert float(dependence.design_effect(state, BINS)) < 2


def test_no_traffic_and_a_constant_signal_have_a_design_effect_of_one() -> None:
    assert float(dependence.design_effect(np.zeros(SIZE), BINS)) == 1
    assert estimate(np.zeros(10 * BLOCK)) == 1
    assert dependence.design_effect(np.zeros((3, 2, SIZE)), BINS).shape == (3, 2)
