"""Guarantees of the verdict that ships, the union of both flags, and the thresholds that keep them.

calibration data -> one OOD threshold for all promises -> for each promise the score threshold that flags least and
still keeps it (for a budget: flags most) -> operating points, or a refusal that names the smallest level that could be
promised. A higher score threshold never flags more, so the verdicts are one nested family. Why each promise holds:
docs/decisions/0007-one-family-of-verdicts.md.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.calibration.bounds import mean_is_below
from models.calibration.data import ROUNDING, CalibrationData, ood_bracket
from models.contract.manifest import OperatingPoint

FLAG_BUDGET = 0.1
MISS_RATE = 0.1
JOINT_RISK = 0.4  # of the failure level
SELECTIVE_RISK = 0.5  # of the failure level
DELTA = 0.1
FIRST_COVERAGE, GRID_SIZE = 0.2, 41  # of the thresholds that selective risk tries

Array = NDArray[np.float64]


class Infeasible(ValueError):  # noqa: N818 - it says something about the data, which are not wrong
    """No threshold keeps the promise; the message names the smallest level that could be kept."""


def flag_budget(data: CalibrationData, level: float) -> OperatingPoint:
    """P(flagged) <= level, on average over calibration sets, at the lowest threshold that keeps this.

    Conformal risk control (Angelopoulos et al., ICLR 2024) of the share flagged. Raises Infeasible, and
    ValueError on a level outside (0, 1) or too few sources for `OOD_BUDGET`.
    """
    _check_share(level)
    ood = ood_bracket(data)
    flagged_anyway = data.ood_scores > ood.below
    free = level * (data.size + 1) - 1 - data.weights[flagged_anyway].sum()
    if free < -ROUNDING:
        least = (1 + data.weights[flagged_anyway].sum()) / (data.size + 1)
        raise Infeasible(f"a flag budget of {level:g} is out of reach: the OOD flag takes up to {least:.3g} of it")
    passed = ~flagged_anyway
    threshold = -_last_within(-data.scores[passed], data.weights[passed], free)
    return OperatingPoint(
        guarantee=(
            f"A new input is flagged, by score or by OOD score, with probability at most {100 * level:g} %, "
            f"on average over calibration sets, while inputs are exchangeable with the calibration images."
        ),
        kind="flag_budget",
        level=level,
        calibration_size=data.size,
        score_threshold=threshold,
        ood_threshold=ood.used,
    )


def miss_rate(data: CalibrationData, level: float) -> OperatingPoint:
    """P(not flagged | loss above the failure level) <= level, on average over calibration sets.

    Split conformal prediction over the failures alone; with several views of a source, risk control of
    1(failed) (1(not flagged) - level). Raises as `flag_budget`.
    """
    _check_share(level)
    failures = float(data.weights[data.failed].sum())
    allowance = level * (failures + 1) - 1
    if allowance < -ROUNDING:
        raise Infeasible(
            f"a miss rate of {level:g} cannot be promised from {failures:.4g} failures: "
            f"the smallest that can is {_ceiling(1 / (failures + 1))}"
        )
    what = f"above {data.loss.failure_level:g} {data.loss.unit}"
    return _flags_least(
        data,
        data.weights * data.failed,
        allowance,
        OperatingPoint(
            guarantee=(
                f"A new input whose loss is {what} is missed, flagged neither by score nor by OOD score, with "
                f"probability at most {100 * level:g} %, on average over calibration sets (this one had "
                f"{failures:.4g} failures), while inputs are exchangeable with the calibration images."
            ),
            kind="miss_rate",
            level=level,
            calibration_size=data.size,
            score_threshold=0.0,
            ood_threshold=0.0,
        ),
    )


def joint_risk(data: CalibrationData, level: float) -> OperatingPoint:
    """E[min(loss, bound) 1(not flagged)] <= level, in the unit of the loss, on average over calibration sets.

    Conformal risk control (Angelopoulos et al., ICLR 2024, theorem 1). Raises as `flag_budget`.
    """
    _check_risk(data, level)
    allowance = level * (data.size + 1) - data.loss_bound
    if allowance < -ROUNDING:
        raise Infeasible(
            f"a joint risk of {level:g} {data.loss.unit} cannot be promised from {data.size} calibration images: "
            f"the smallest that can is {_ceiling(data.loss_bound / (data.size + 1))} {data.loss.unit}"
        )
    return _flags_least(
        data,
        data.weights * data.clipped,
        allowance,
        OperatingPoint(
            guarantee=(
                f"The loss that passes unflagged{_clip_clause(data)}, counting flagged inputs as 0, is at most "
                f"{level:g} {data.loss.unit} in expectation, on average over calibration sets, while inputs are "
                f"exchangeable with the calibration images."
            ),
            kind="joint_risk",
            level=level,
            loss_bound=data.loss_bound,
            calibration_size=data.size,
            score_threshold=0.0,
            ood_threshold=0.0,
        ),
    )


def selective_risk(data: CalibrationData, level: float, delta: float, grid: ArrayLike) -> OperatingPoint:
    """E[min(loss, bound) | not flagged] <= level for a share 1 - delta of calibration sets.

    Learn then Test (Angelopoulos et al. 2021) on the union: the thresholds of `grid`, which must not come from the
    calibration data, are tested in turn, beginning with the one that flags most. The last one before the first
    failure is used. Given the OOD threshold, an order statistic, the inputs below it are independent draws from the
    law below it. Given which of these inputs pass, their losses are independent draws from the law of inputs that
    pass. Only the first view of every source is used. Raises as `flag_budget`.
    """
    _check_risk(data, level)
    _check_share(delta)
    rows, thresholds = data.first_views, np.unique(np.asarray(grid, np.float64))
    ood = ood_bracket(data).used
    near = rows[data.ood_scores[rows] < ood]

    def passes(threshold: float, at: float = level) -> bool:
        accepted = near[data.scores[near] <= threshold]
        return mean_is_below(data.clipped[accepted], at, data.loss_bound, delta)

    passed = _leading(passes, thresholds)
    if not passed:
        least = _ceiling(_least_level(lambda at: passes(thresholds[0], at), level, data.loss_bound))
        raise Infeasible(
            f"a selective risk of {level:g} {data.loss.unit} cannot be shown with confidence {1 - delta:g} even for "
            f"the inputs with the lowest scores; on these data the smallest that can is {least} {data.loss.unit}"
        )
    return OperatingPoint(
        guarantee=(
            f"The expected loss of inputs that are not flagged{_clip_clause(data)} is at most {level:g} "
            f"{data.loss.unit}; this holds for {100 * (1 - delta):g} % of calibration sets of independent inputs, "
            f"while inputs come from the law of the calibration images."
        ),
        kind="selective_risk",
        level=level,
        delta=delta,
        loss_bound=data.loss_bound,
        calibration_size=data.size,
        score_threshold=float(passed[-1]),
        ood_threshold=math.nextafter(ood, -math.inf),  # the test used no input exactly at the threshold
    )


def score_grid(scores: ArrayLike) -> Array:
    """Thresholds for `selective_risk`: quantiles of scores [n] that are not from the calibration split.

    They start at a coverage of 20 %: with fewer accepted inputs the first test is weak, and all others depend on it.
    """
    return np.quantile(np.asarray(scores, np.float64), np.linspace(FIRST_COVERAGE, 1, GRID_SIZE))


class OperatingPoints(NamedTuple):
    """Operating points by name, and for each name without one the reason, as the manifest holds them."""

    points: dict[str, OperatingPoint]
    refused: dict[str, str]


def operating_points(data: CalibrationData, grid: ArrayLike) -> OperatingPoints:
    """All four at the usual levels. `budget` is the default of a bundle: when it cannot be promised, this raises."""
    failure_level = data.loss.failure_level
    promises: dict[str, Callable[[], OperatingPoint]] = {
        "miss_rate": lambda: miss_rate(data, MISS_RATE),
        "joint_risk": lambda: joint_risk(data, JOINT_RISK * failure_level),
        "selective_risk": lambda: selective_risk(data, SELECTIVE_RISK * failure_level, DELTA, grid),
    }
    points, refused = {"budget": flag_budget(data, FLAG_BUDGET)}, {}
    for name, promise in promises.items():
        try:
            points[name] = promise()
        except Infeasible as reason:
            refused[name] = str(reason)
    return OperatingPoints(points, refused)


def _flags_least(data: CalibrationData, costs: Array, allowance: float, draft: OperatingPoint) -> OperatingPoint:
    """The highest threshold that keeps the accepted costs within `allowance`, the OOD flag at its upper neighbour."""
    ood = ood_bracket(data)
    near = data.ood_scores <= ood.above
    order = np.argsort(data.scores[near], kind="stable")
    spent = costs[near][order].cumsum()
    beyond = np.flatnonzero(spent > allowance + ROUNDING)
    ordered = data.scores[near][order]
    # Just below the first score that is too much. Without one, the largest score: nothing is known beyond it.
    threshold = math.nextafter(ordered[beyond[0]], -math.inf) if beyond.size else float(ordered[-1])
    return draft.model_copy(update={"score_threshold": float(threshold), "ood_threshold": ood.used})


def _last_within(values: Array, weights: Array, allowance: float) -> float:
    """The largest v of `values` for which the weights of all values below v add up to at most `allowance`."""
    order = np.argsort(values, kind="stable")
    ordered, spent = values[order], weights[order].cumsum() - weights[order]
    first_of_tie = np.searchsorted(ordered, ordered, side="left")
    return float(ordered[spent[first_of_tie] <= allowance + ROUNDING][-1])


def _leading(passes: Callable[[float], bool], thresholds: Array) -> list[float]:
    """The thresholds before the first one that does not pass."""
    kept: list[float] = []
    for threshold in thresholds.tolist():
        if not passes(threshold):
            break
        kept.append(threshold)
    return kept


def _least_level(passes: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest level that passes, between one that does not pass and the bound, which no loss exceeds."""
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _clip_clause(data: CalibrationData) -> str:
    return "" if data.loss.bound else f" (losses above {data.loss_bound:g} {data.loss.unit} counted as that)"


def _ceiling(level: float) -> str:
    """Three significant digits, rounded up, so that the level in the message can be kept."""
    unit = 10.0 ** (math.floor(math.log10(level)) - 2)
    return f"{math.ceil(level / unit - ROUNDING) * unit:.3g}"


def _check_share(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not at {level}")


def _check_risk(data: CalibrationData, level: float) -> None:
    if not 0 < level < data.loss_bound:
        raise ValueError(f"the level must lie between 0 and the bound of the loss, {data.loss_bound:g}, not at {level}")
