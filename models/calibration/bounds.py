"""Is the mean of bounded numbers below a level? A test by betting, valid for any law and any sample size."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
