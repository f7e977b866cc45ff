"""The test by betting is wrong at most as often as it says, and is right once there are enough numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike

from models.calibration.bounds import mean_is_below

DRAWS = 4000


@pytest.mark.parametrize("law", ["two points", "rare and large", "constant"])
def test_it_is_wrong_at_most_delta_of_the_time(law: str) -> None:
    rng, delta, level = np.random.default_rng(0), 0.1, 0.2
    draws: Callable[[], ArrayLike] = {
        "two points": lambda: (rng.random(100) < level).astype(float),
        "rare and large": lambda: np.where(rng.random(100) < level / 0.9, 0.9, 0.0),
        "constant": lambda: np.full(100, level),
    }[law]
    wrong = np.mean([mean_is_below(draws(), level, 1.0, delta) for _ in range(DRAWS)])
    assert wrong <= delta + 2 * np.sqrt(delta * (1 - delta) / DRAWS)


def test_it_finds_what_is_there_whatever_the_unit() -> None:
    rng = np.random.default_rng(1)
    found = [mean_is_below(5 * rng.beta(2, 8, size=200), 1.5, 5.0, 0.1) for _ in range(100)]  # the mean is 1
    assert np.mean(found) > 0.95


def test_nothing_shows_nothing() -> None:
    assert not mean_is_below([], 0.5, 1.0, 0.1)
    assert not mean_is_below([0.0, 0.0], 0.5, 1.0, 0.1)
