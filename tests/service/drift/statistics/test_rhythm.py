"""A daily rhythm is known from the third day on; the day on which drift began is not taken for a rhythm."""

import json

import numpy as np
import pytest
from scipy import stats

from service.drift.statistics import rhythm
from service.drift.statistics.rhythm import Rhythm
from tests.service.drift.references import normal_bins

BINS = normal_bins(m=2000)
PER_HOUR = 600


def day(state: Rhythm, rng: np.random.Generator, levels: np.ndarray) -> Rhythm:
    """levels: shift of each hour, [24]."""
    for hour, level in enumerate(levels):
        shares = np.diff(stats.norm.cdf(BINS.edges - level), prepend=0.0, append=1.0)
        state = rhythm.update(state, BINS, rng.multinomial(PER_HOUR, shares).astype(float), hour)
    return rhythm.end_day(state, BINS)


def days(*levels: np.ndarray) -> list[float]:
    """Design effect after each day."""
    state, rng, made = Rhythm.fresh(), np.random.default_rng(0), []
    for one in levels:
        state = day(state, rng, one)
        made.append(float(rhythm.design_effect(state)))
    return made


SWING = 0.3 * np.sin(np.arange(24) * np.pi / 12)


def test_a_daily_cycle_counts_from_its_second_day_on_by_the_variance_of_hourly_means() -> None:
    first, second, third = days(SWING, SWING, SWING)
    assert first == 1
    assert second == pytest.approx(1 + PER_HOUR * SWING.var(ddof=1), rel=0.35)
    assert third > 10


def test_similar_hours_leave_it_near_one() -> None:
    assert max(days(*[np.zeros(24)] * 6)) < 1.5


def test_the_day_on_which_drift_began_is_no_rhythm() -> None:
    began = np.where(np.arange(24) < 12, 0.0, 1.0)
    assert max(days(np.zeros(24), began, np.ones(24), np.ones(24))) < 2


def test_a_day_with_traffic_in_few_hours_is_skipped() -> None:
    state = Rhythm.fresh()
    for hour in range(rhythm.ENOUGH_HOURS - 1):
        state = rhythm.update(state, BINS, np.ones(14), hour)
    assert np.isnan(rhythm.end_day(state, BINS).days).all()


def test_days_without_traffic_keep_the_known_rhythm() -> None:
    """A site that works from Monday to Friday has its rhythm on Monday again."""
    rng, state = np.random.default_rng(2), Rhythm.fresh()
    for _ in range(3):
        state = day(state, rng, SWING)
    friday = float(rhythm.design_effect(state))
    monday = rhythm.end_day(rhythm.end_day(state, BINS), BINS)
    assert friday > 10
    assert float(rhythm.design_effect(monday)) == friday


def test_a_state_survives_json() -> None:
    state = day(Rhythm.fresh(), np.random.default_rng(1), SWING)
    text = json.dumps(state.to_json(), allow_nan=False)
    back = Rhythm.from_json(json.loads(text))
    assert json.dumps(back.to_json()) == text
    assert np.isnan(back.days).sum() == rhythm.DAYS - 1
