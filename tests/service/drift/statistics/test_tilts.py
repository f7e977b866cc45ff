"""Tilts are what they say: shifts and spreads of a normal distribution."""

import numpy as np
import pytest
from scipy import stats

from service.drift.statistics import tilts
from service.drift.statistics.bins import LEVELS
from tests.service.drift.references import normal_bins


def shares(loc: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.diff(stats.norm.cdf(stats.norm.ppf(LEVELS), loc, scale), prepend=0.0, append=1.0)


def test_location_tilts_shift_a_normal_by_so_many_standard_deviations() -> None:
    bins = normal_bins(m=9999)
    made = tilts.tilted(shares(), tilts.exponents(bins.normal_scores))
    for theta, tilt in zip(tilts.LOCATIONS, made, strict=False):
        if abs(theta) <= 0.5:
            assert tilt == pytest.approx(shares(theta), abs=0.01)
        assert np.sign(tilt @ bins.normal_scores) == np.sign(theta)


def test_spread_tilts_change_the_variance() -> None:
    bins = normal_bins(m=9999)
    narrow, wide = tilts.tilted(shares(), tilts.exponents(bins.normal_scores))[-2:]
    assert narrow == pytest.approx(shares(scale=0.5**0.5), abs=0.02)
    assert wide @ bins.normal_scores**2 > 1.4
    assert narrow.sum() == pytest.approx(1)
