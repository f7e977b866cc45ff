"""Bounds that hold for any law and any sample size: a conformal threshold, and a test of a mean by betting."""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray


def budget_threshold(scores: ArrayLike, level: float) -> float:
    """Threshold that a new score exceeds with probability at most `level`.

    scores: float [n], calibration scores, exchangeable with the new one; higher is worse.
    level: the budget, in (0, 1). Returns the ceil((n + 1)(1 - level))-th smallest score, the rank of
    split-conformal prediction (Papadopoulos et al. 2002; Vovk et al. 2005); ties only lower the
    probability. Raises ValueError on NaN, on a level outside (0, 1) and when n is too small for it.
    """
    values = checked_numbers(scores)
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not at {level}")
    exceeding = math.floor((values.size + 1) * Fraction(str(level)))  # exact: floats put 100 * 0.29 below 29
    if exceeding < 1:
        raise ValueError(
            f"{values.size} calibration scores cannot promise a level of {level:g}: "
            f"at least {math.ceil(1 / Fraction(str(level))) - 1} are needed"
        )
    return float(np.sort(values)[values.size - exceeding])


def mean_is_below(values: ArrayLike, level: float, bound: float, delta: float) -> bool:
    """Whether the mean of the law is shown to be below `level`; wrongly with probability at most `delta`.

    values: float [n], independent draws from one law on [0, bound], in an order that does not depend on them.
    Bets on small values with a capital of 1; under the null, mean >= level, the capital is a supermartingale
    and reaches 1 / delta with probability at most delta (Ville). The bets are the predictable plug-in of
    Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024, eq. 26).
    """
    x = np.asarray(values, np.float64) / bound
    bets = _bets(x, delta)
    log_capital = np.log1p(-bets * (x - level / bound)).cumsum()
    return bool(log_capital.max(initial=0.0) >= -np.log(delta))


def _bets(x: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """[n]: the stake on each of x, in [0, 1], from those before it; as if all were to be decided at the end."""
    seen = np.arange(1, x.size + 1)
    mean = (0.5 + x.cumsum()) / (seen + 1)
    variance = (0.25 + ((x - mean) ** 2).cumsum()) / (seen + 1)
    before = np.concatenate(([0.25], variance))[: x.size]
    stakes: NDArray[np.float64] = np.minimum(1.0, np.sqrt(-2 * np.log(delta) / (max(x.size, 1) * before)))
    return stakes


def checked_numbers(values: ArrayLike) -> NDArray[np.float64]:
    """values: float [n] -> the same as float64. Raises ValueError unless there are some and all of them are finite."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"expected numbers [n], got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("every value must be a finite number; some are NaN or infinite")
    return array
