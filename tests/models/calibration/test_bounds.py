"""Bounds keep their level: the conformal threshold over all orders, the test by betting as often as it says."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import ArrayLike

from models.calibration.bounds import budget_threshold, mean_is_below

REDRAWS = 2000
DRAWS = 4000


def test_threshold_is_the_conformal_rank() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 100))
    assert budget_threshold(scores, 0.1) == 90  # ceil(100 * 0.9)
    assert budget_threshold(scores, 0.01) == 99
    assert budget_threshold(scores, 0.29) == 71  # exact although 100 * 0.29 < 29 in floats
    assert budget_threshold(scores, 0.995) == 1


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5, 6), (1, 1, 2, 2, 2, 3), (7, 7, 7, 7, 7, 7)])
@pytest.mark.parametrize("level", [0.17, 0.2, 0.25, 0.5, 0.8])
def test_budget_holds_exactly_over_all_orders_ties_included(values: tuple[int, ...], level: float) -> None:
    orders = [(values[:i] + values[i + 1 :], new) for i, new in enumerate(values)]  # each may be the new one
    flagged = sum(new > budget_threshold(rest, level) for rest, new in orders)
    assert Fraction(flagged, len(orders)) <= Fraction(str(level))
    if len(set(values)) == len(values):  # without ties nothing that the level allows is wasted
        assert flagged == int(Fraction(str(level)) * len(values))


def test_budget_holds_on_average_over_redraws() -> None:
    rng = np.random.default_rng(1)
    flagged = [rng.normal() > budget_threshold(rng.normal(size=59), 0.1) for _ in range(REDRAWS)]
    error = np.std(flagged) / np.sqrt(REDRAWS)
    assert abs(np.mean(flagged) - 0.1) <= 3 * error


@pytest.mark.parametrize(
    ("scores", "level", "says"),
    [
        ([1.0] * 8, 0.1, "at least 9"),
        ([1.0] * 9, 0.0, "between 0 and 1"),
        ([1.0] * 9, 1.0, "between 0 and 1"),
        ([1.0] * 9, float("nan"), "between 0 and 1"),
        ([1.0] * 8 + [float("nan")], 0.1, "NaN"),
        ([], 0.1, "shape"),
        ([[1.0] * 9], 0.1, "shape"),
    ],
)
def test_threshold_refuses_what_carries_no_promise(scores: list[float], level: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        budget_threshold(scores, level)


def test_nine_scores_are_enough_for_a_tenth() -> None:
    assert budget_threshold(np.arange(9), 0.1) == 8


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
