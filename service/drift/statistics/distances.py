"""KS distance and PSI, for readers who know them. Reports show them; they decide nothing."""

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics.bins import Bins

Floats = NDArray[np.float64]


def window_shares(counts: Floats) -> Floats:
    """Share of each bin, [b]; zeros for an empty window."""
    total = counts.sum()
    return counts / total if total else np.zeros_like(counts, dtype=np.float64)


def ks_distance(bins: Bins, counts: Floats) -> float:
    """Largest distance of the two distribution functions at the bins' edges, 0..1. counts: [b]."""
    if not counts.sum():
        return 0.0
    return float(np.abs(np.cumsum(window_shares(counts)) - np.cumsum(bins.shares)).max())


def psi(bins: Bins, counts: Floats) -> float:
    """Population stability index: sum of (window - reference) log(window / reference). counts: [b].

    Half an observation is added to each bin of the window, so that the logarithm of an empty bin is finite.
    """
    if not counts.sum():
        return 0.0
    window = window_shares(counts + 0.5)
    return float(((window - bins.shares) * np.log(window / bins.shares)).sum())


def psi_null(bins: Bins, n: float) -> float:
    """The mean of PSI without drift: (b - 1) (1 / n + 1 / m) (Yurdakul and Naranjo 2020).

    n: effective observations of the window. The result is 0 for an empty window.
    """
    return (len(bins.alpha) - 1) * (1 / n + 1 / bins.size) if n > 0 else 0.0
