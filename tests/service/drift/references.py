"""References to test drift statistics with."""

import numpy as np
from numpy.typing import NDArray

from models.contract.manifest import OrderStatistics
from service.drift.statistics.bins import Bins


def order_statistics(values: NDArray[np.float64]) -> OrderStatistics:
    """Order statistics of all ranks."""
    ranks = tuple(range(1, len(values) + 1))
    return OrderStatistics(size=len(values), ranks=ranks, values=tuple(np.sort(values).tolist()))


def normal_bins(seed: int = 0, m: int = 400) -> Bins:
    """Bins of a reference of m draws from a standard normal."""
    return Bins.of(order_statistics(np.random.default_rng(seed).standard_normal(m)))


def few_bins(*alpha: float) -> Bins:
    """Bins of a reference with these Dirichlet parameters and edges at 1, 2, ..."""
    return Bins(np.arange(1.0, len(alpha)), np.array(alpha), int(sum(alpha)) - 1)
