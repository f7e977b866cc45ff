"""Effects: intervals cover what they should, by published values or by simulation."""

import math
from functools import reduce

import numpy as np
import pytest
from scipy import stats

from service.drift.statistics import effect
from service.drift.statistics.effect import AuditSums, Interval, LossSums


def sums(values: np.ndarray) -> LossSums:
    return LossSums(len(values), float(values.sum()), float(values @ values))


def test_sums_have_numpys_mean_and_variance() -> None:
    values = np.array([1.0, 4.0, 2.5, 0.5])
    assert sums(values).mean == pytest.approx(values.mean())
    assert sums(values).variance == pytest.approx(values.var(ddof=1))
    assert LossSums().mean == LossSums(1, 5.0, 25.0).variance == 0


def test_the_mean_loss_has_the_interval_of_as_many_observations_as_traffic_is_worth() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=900)
    estimate = effect.mean_loss(sums(values), design_effect=9.0)
    assert estimate is not None
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.high - estimate.value == pytest.approx(stats.t.ppf(0.975, 99) * values.std(ddof=1) / 10, rel=1e-5)


@pytest.mark.parametrize("freedom", [29, 100, 10_000])
@pytest.mark.parametrize("level", [0.975, 0.9875])
def test_students_quantile_is_scipys(level: float, freedom: int) -> None:
    assert effect.t_quantile(level, freedom) == pytest.approx(stats.t.ppf(level, freedom), rel=2e-4)


def test_few_observations_make_no_effect() -> None:
    """Two images that are alike have no spread at all, and one of one OOD score would be a rate of 100 %."""
    assert effect.mean_loss(LossSums(2, 0.8, 0.32), 1.0) is None
    assert effect.mean_loss(LossSums(300, 120.0, 60.0), 10.1) is None
    assert effect.mean_loss(LossSums(300, 120.0, 60.0), 10.0) is not None
    assert effect.exceedance(1, 1, 1.0) is None
    assert effect.exceedance(20, 199, 2.0) is None
    assert effect.exceedance(20, 200, 2.0) is not None


def test_the_fewest_that_make_an_effect_rarely_make_one_by_chance() -> None:
    """Skewed losses as of the shipped models, and rates of 5 %, with no change."""
    rng = np.random.default_rng(7)
    rises = []
    for _ in range(2000):
        reference, now = rng.gamma(3.3, 0.3, 400), rng.gamma(3.3, 0.3, 30)
        estimate = effect.mean_loss(sums(now), 1.0)
        assert estimate is not None
        rise = effect.rise(estimate, reference.mean(), reference.std(ddof=1), 400)
        rises.append(rise.value >= 0.1 and rise.low > 0)
    rates = [effect.exceedance(count, 100, 1.0) for count in rng.binomial(100, 0.05, 2000).tolist()]
    ratios = [effect.exceedance_ratio(rate, 0.05, 400) for rate in rates if rate is not None]
    assert np.mean(rises) < 0.025
    assert np.mean([ratio.value >= 2 and ratio.low > 1 for ratio in ratios]) < 0.03


def test_a_rise_counts_the_errors_of_traffic_and_reference() -> None:
    made = effect.rise(Interval(1.2, 1.2 - 0.03, 1.2 + 0.03), 1.0, reference_sd=0.4, reference_n=384)
    own = 1.959964 * 0.4 / math.sqrt(384)
    assert made.value == pytest.approx(0.2)
    assert made.low == pytest.approx(0.2 - math.hypot(0.03, own))
    assert made.high == pytest.approx(0.2 + math.hypot(0.03, own))


def test_without_a_change_a_rise_is_above_nothing_in_one_of_forty_references() -> None:
    rng = np.random.default_rng(1)
    above = 0
    for _ in range(2000):
        reference, now = rng.lognormal(0, 0.5, 400), rng.lognormal(0, 0.5, 600)
        estimate = effect.mean_loss(sums(now), 1.0)
        assert estimate is not None
        above += effect.rise(estimate, reference.mean(), reference.std(ddof=1), 400).low > 0
    assert 0.015 < above / 2000 < 0.035


@pytest.mark.parametrize(("count", "low", "high"), [(81, 0.2553, 0.3662), (0, 0.0, 0.0144), (15, 0.0349, 0.0920)])
def test_the_exceedance_rate_has_wilsons_interval(count: int, low: float, high: float) -> None:
    """Of 263: Newcombe 1998, Statistics in Medicine 17, table I for 81; the same formula by scipy for the others."""
    rate = effect.exceedance(count, 263, 1.0)
    assert rate is not None
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=6e-5)
    by_scipy = stats.binomtest(count, 263).proportion_ci(method="wilson")
    assert (rate.low, rate.high) == pytest.approx((by_scipy.low, by_scipy.high), abs=1e-9)


def test_dependent_traffic_has_the_interval_of_fewer_images() -> None:
    assert effect.exceedance(40, 4000, 10.0) == effect.exceedance(4, 400, 1.0)
    assert effect.exceedance(0, 0, 1.0) is None


def test_the_ratio_of_exceedance_rates_rarely_exceeds_one_by_chance() -> None:
    """Over 4,000 references of 400, 20 of which lie above the point: its own chance is Beta(20, 381)."""
    rng = np.random.default_rng(2)
    counts = rng.binomial(2000, rng.beta(20, 381, 4000))
    rates = [effect.exceedance(count, 2000, 1.0) for count in counts.tolist()]
    ratios = [effect.exceedance_ratio(rate, 20 / 401, 400) for rate in rates if rate is not None]
    assert 0.01 < np.mean([ratio.low > 1 for ratio in ratios]) < 0.035
    none = effect.exceedance_ratio(Interval(0.0, 0.0, 0.01), 0.05, 400)
    assert none.value == none.low == 0
    assert none.high > 0.2


def audit(true: np.ndarray, predicted: np.ndarray, chance: np.ndarray) -> AuditSums:
    rows = zip(true.tolist(), predicted.tolist(), chance.tolist(), strict=True)
    return reduce(AuditSums.__add__, (AuditSums.of(*row) for row in rows), AuditSums())


def test_audit_labels_of_unequal_probability_stand_for_the_traffic() -> None:
    """Errors are larger where images were drawn more often: unweighted labels would say .75."""
    rng = np.random.default_rng(3)
    is_hard = rng.random(200_000) < 0.5
    chance = np.where(is_hard, 0.03, 0.01)
    error = np.where(is_hard, 1.0, 0.0) + rng.normal(0, 0.1, 200_000)
    drawn = rng.random(200_000) < chance
    made = effect.correction(audit(error[drawn], np.zeros(drawn.sum()), chance[drawn]), 0.05)
    assert made.value == pytest.approx(0.5, abs=0.03)
    assert made.low < 0.5 < made.high
    assert error[drawn].mean() > 0.7


def test_a_correction_moves_the_mean_loss_by_what_the_head_is_off() -> None:
    rng = np.random.default_rng(4)
    predicted, chance = rng.gamma(4.0, 0.25, 5000), np.full(5000, 0.1)
    true = predicted + 0.3 + rng.normal(0, 0.05, 5000)
    plain = effect.mean_loss(sums(predicted), 1.0)
    corrected = effect.mean_loss(sums(predicted), 1.0, audit(true[:500], predicted[:500], chance[:500]))
    few = effect.mean_loss(sums(predicted), 1.0, audit(true[:49], predicted[:49], chance[:49]))
    assert plain is not None
    assert corrected is not None
    assert corrected.value - plain.value == pytest.approx(0.3, abs=0.01)
    assert corrected.low < true.mean() < corrected.high
    assert few == plain


def test_the_confidence_sequence_is_the_published_one() -> None:
    """Robbins' normal mixture: at error .05 and 300 observations, 1.5 times a pointwise interval of 1.96 / sqrt(n)."""
    margin = effect.sequence_margin(300, 0.05)
    rho2 = (2 * math.log(20) + math.log(2 * math.log(20)) + 1) / 300
    expected = math.sqrt(2 * (300 * rho2 + 1) / (300**2 * rho2) * math.log(math.sqrt(300 * rho2 + 1) / 0.05))
    assert margin == pytest.approx(expected, rel=1e-12)
    assert 1.3 < margin * math.sqrt(300) / 1.959964 < 1.7
    around = [effect.sequence_margin(300, 0.05, tightest_at=at) for at in (100, 200, 300, 450, 900)]
    assert min(around) == around[2]


def test_the_sequence_holds_at_every_moment_together() -> None:
    """2,000 streams of 3,000 skewed differences, looked at after each from the fiftieth on."""
    rng = np.random.default_rng(5)
    n = np.arange(1, 3001)
    ever = 0
    margins = np.array([effect.sequence_margin(int(k), 0.05) for k in n])
    for _ in range(10):
        draws = rng.lognormal(0, 0.5, (200, 3000)) - math.exp(0.125)
        means = np.cumsum(draws, axis=1) / n
        spread = np.sqrt(np.maximum(np.cumsum(draws**2, axis=1) / n - means**2, 1e-12))
        ever += (np.abs(means) > spread * margins)[:, effect.ENOUGH_LABELS :].any(axis=1).sum()
    assert ever / 2000 <= 0.06
