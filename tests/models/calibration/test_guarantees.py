"""Promises hold, use their level, and are refused with a reason when the data do not allow them."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

from models.calibration.data import CalibrationData, ood_bracket
from models.calibration.guarantees import (
    Infeasible,
    flag_budget,
    joint_risk,
    miss_rate,
    operating_points,
    score_grid,
    selective_risk,
)
from models.contract.manifest import Loss, OperatingPoint

LOSS = Loss(name="error", unit="px", failure_level=2.0, bound=8.0)
UNBOUNDED = Loss(name="error", unit="px", failure_level=2.0)
Calibrate = Callable[[CalibrationData, float], OperatingPoint]


def answers(n: int, seed: int = 0, views: int = 1, loss: Loss = LOSS, dependence: float = 0.0) -> CalibrationData:
    """Data of n sources; the score explains half of the loss. dependence: between the two scores."""
    rng = np.random.default_rng(seed)
    hard = np.repeat(rng.normal(size=n), views) + rng.normal(size=n * views)
    losses = np.minimum(np.exp(0.5 * hard + 0.5 * rng.normal(size=hard.size)), 8.0)
    ood_scores = dependence * hard + rng.normal(size=hard.size)
    return CalibrationData.of(hard, ood_scores, losses, loss, np.repeat(np.arange(n), views))


def leave_out(data: CalibrationData, source: int) -> CalibrationData:
    kept = data.sources != source
    columns = (data.scores[kept], data.ood_scores[kept], data.losses[kept])
    return CalibrationData.of(*columns, data.loss, data.sources[kept])


def flagged(point: OperatingPoint, data: CalibrationData) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    flags = point.flags(data.scores, data.ood_scores)
    return flags["predicted_loss"] | flags["ood_score"]


def left_out(data: CalibrationData, calibrate: Calibrate, level: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The verdict on every example after a calibration on all other sources: an exact average over orders."""
    verdict = np.zeros(data.scores.size, bool)
    for source in range(data.size):
        own = data.sources == source
        verdict[own] = flagged(calibrate(leave_out(data, source), level), data)[own]
    return verdict


@pytest.mark.parametrize(("views", "rounded", "dependence"), [*product([1, 3], [False, True], [-2.0, 0.0, 2.0])])
def test_on_average_over_all_orders_each_promise_is_kept_exactly(
    views: int,
    rounded: bool,  # noqa: FBT001 - a case
    dependence: float,
) -> None:
    """Each of 130 sources is the new one once: that is the expectation given which 130 there are."""
    data = answers(130, 1, views, dependence=dependence)
    if rounded:  # ties in both scores
        data = CalibrationData.of(data.scores.round(1), data.ood_scores.round(1), data.losses, LOSS, data.sources)
    weights = data.weights
    verdict = left_out(data, flag_budget, 0.1)
    assert weights[verdict].sum() <= 0.1 * data.size + 1e-9
    verdict = left_out(data, miss_rate, 0.2)
    assert weights[data.failed & ~verdict].sum() <= 0.2 * weights[data.failed].sum() + 1e-9
    verdict = left_out(data, joint_risk, 0.7)
    assert (weights * data.losses)[~verdict].sum() <= 0.7 * data.size + 1e-9


def test_thresholds_use_most_of_their_level() -> None:
    data = answers(400, seed=3)
    assert data.weights[left_out(data, flag_budget, 0.1)].mean() == 1
    assert left_out(data, flag_budget, 0.1).mean() >= 0.093
    missed = ~left_out(data, miss_rate, 0.2)[data.failed]
    assert missed.mean() >= 0.2 - 3 / data.failed.sum()
    passed = data.losses * ~left_out(data, joint_risk, 0.7)
    assert passed.mean() >= 0.7 - 3 * 8 / 400


def test_verdicts_are_nested_and_share_one_ood_threshold() -> None:
    data = answers(400)
    for calibrate, levels in ((flag_budget, (0.3, 0.2, 0.1)), (miss_rate, (0.1, 0.2, 0.3)), (joint_risk, (0.5, 0.8))):
        verdicts = [flagged(calibrate(data, level), data) for level in levels]
        assert all((more | fewer == more).all() for more, fewer in pairwise(verdicts))
        assert {calibrate(data, level).ood_threshold for level in levels} == {ood_bracket(data).used}


def test_a_source_with_many_views_counts_once() -> None:
    data = answers(200)
    rows = np.concatenate([np.arange(200), np.zeros(5000, int)])  # the first source again and again
    columns = (data.scores[rows], data.ood_scores[rows], data.losses[rows])
    copied = CalibrationData.of(*columns, LOSS, rows)
    for calibrate, level in ((flag_budget, 0.1), (miss_rate, 0.2), (joint_risk, 0.7)):
        assert calibrate(copied, level) == calibrate(data, level)


def test_selective_risk_is_broken_by_at_most_delta_of_the_calibration_sets() -> None:
    population, delta, level = answers(2000, seed=5), 0.2, 1.0
    grid, rng, broken, coverage = score_grid(answers(300, seed=6).scores), np.random.default_rng(7), 0, []
    for _ in range(300):
        rows = rng.integers(0, 2000, 300)
        columns = (population.scores[rows], population.ood_scores[rows], population.losses[rows])
        point = selective_risk(CalibrationData.of(*columns, LOSS), level, delta, grid)
        passed = ~flagged(point, population)
        broken += population.losses[passed].mean() > level
        coverage.append(passed.mean())
    assert broken / 300 <= delta + 2 * np.sqrt(delta * (1 - delta) / 300)
    assert np.mean(coverage) > 0.4  # of .69, up to which the population's own risk is below the level


def test_selective_risk_takes_a_threshold_of_the_grid_and_stops_at_the_first_that_fails() -> None:
    data = answers(400)
    whole = selective_risk(data, 1.0, 0.1, score_grid(data.scores))
    low = score_grid(data.scores)[:5]
    assert whole.score_threshold in score_grid(data.scores)
    assert selective_risk(data, 1.0, 0.1, low).score_threshold == low[-1] < whole.score_threshold
    with pytest.raises(Infeasible):  # no inputs are accepted, so the first test fails and no later one is tried
        selective_risk(data, 1.0, 0.1, [-100.0, *low])


@pytest.mark.parametrize(
    ("calibrate", "level", "least", "says"),
    [
        (miss_rate, 0.01, 0.0239, "from 41 failures: the smallest that can is 0.0239"),
        (joint_risk, 0.03, 0.0397, "from 201 calibration images: the smallest that can is 0.0397 px"),
        (flag_budget, 0.011, 0.015, "the OOD flag takes up to 0.0149"),
    ],
)
def test_an_impossible_promise_is_refused_with_the_smallest_possible_level(
    calibrate: Calibrate, level: float, least: float, says: str
) -> None:
    data = answers(201 if calibrate is not flag_budget else 200)
    with pytest.raises(Infeasible) as refused:
        calibrate(data, level)
    assert says in str(refused.value)
    assert calibrate(data, least * 1.01).level == least * 1.01


def test_a_refused_selective_risk_names_a_level_that_is_not_refused() -> None:
    data = answers(400)
    grid = score_grid(answers(300, seed=6).scores)
    with pytest.raises(Infeasible, match="the smallest that can is") as refused:
        selective_risk(data, 0.2, 0.1, grid)
    least = float(str(refused.value).split()[-2])
    assert selective_risk(data, least, 0.1, grid).level == least


def test_each_point_states_its_promise_and_its_assumption() -> None:
    found = operating_points(answers(400, loss=UNBOUNDED, views=2), score_grid(answers(300, seed=6).scores))
    assert set(found.points) == {"budget", "miss_rate", "joint_risk", "selective_risk"}
    assert found.refused == {}
    for name, said in {
        "budget": ("at most 10 %", "exchangeable"),
        "miss_rate": ("above 2 px is missed", "at most 10 %", "failures", "exchangeable"),
        "joint_risk": ("at most 0.8 px", "losses above 8 px counted as that", "exchangeable"),
        "selective_risk": ("at most 1 px", "90 % of calibration sets", "law of the calibration images"),
    }.items():
        point = found.points[name]
        assert point.calibration_size == 400
        assert all(part in point.guarantee for part in said), point.guarantee


def test_refused_points_are_named_and_do_not_affect_the_others() -> None:
    data = answers(100)
    found = operating_points(data, score_grid(data.scores) - 50)
    assert "budget" in found.points
    assert "selective risk" in found.refused["selective_risk"]
    assert set(found.points) | set(found.refused) == {"budget", "miss_rate", "joint_risk", "selective_risk"}


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, float("nan")])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    for calibrate in (flag_budget, miss_rate):
        with pytest.raises(ValueError, match="between 0 and 1"):
            calibrate(answers(200), level)


@pytest.mark.parametrize("level", [0.0, 8.0, float("nan")])
def test_a_risk_beyond_the_bound_of_the_loss_is_no_promise(level: float) -> None:
    with pytest.raises(ValueError, match="bound of the loss"):
        joint_risk(answers(200), level)
    with pytest.raises(ValueError, match="bound of the loss"):
        selective_risk(answers(200), level, 0.1, [0.0])


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (([1.0], [1.0, 2.0], [1.0]), "columns of the same inputs"),
        (([], [], []), "columns of the same inputs"),
        (([float("nan")], [1.0], [1.0]), "finite"),
        (([1.0], [1.0], [-1.0]), "not negative"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: tuple[list[float], list[float], list[float]], says: str) -> None:
    scores, ood_scores, losses = columns
    with pytest.raises(ValueError, match=says):
        CalibrationData.of(scores, ood_scores, losses, LOSS)


def test_fewer_than_99_sources_allow_no_ood_threshold() -> None:
    with pytest.raises(ValueError, match="at least 99 are needed"):
        flag_budget(answers(98), 0.1)
    assert Fraction(1, 100) == Fraction(str(0.01))  # 99 and the new one: exactly one may be above
    assert flag_budget(answers(99), 0.1).ood_threshold == answers(99).ood_scores.max()
