"""Bins of one signal, and the distribution of a new observation that a reference of m observations implies.

The edges are order statistics of the reference. Let the new observation be exchangeable with the m of the reference,
and the distribution be continuous. Then the probabilities of the bins between the values of ranks r_1 < r_2 < ... are
Dirichlet(r_1, r_2 - r_1, ..., m + 1 - r_k), for every distribution (Wilks 1962, Mathematical Statistics, 8.7).
This package uses only the bin of a value from there on.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.contract.manifest import OrderStatistics

# Deciles, and both tails. The OOD exceedance rate counts values above the 95 % point.
LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
EXTREME = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bins:
    """b bins of a reference of `size` observations."""

    edges: Floats  # [b - 1], strictly increasing; a value equal to an edge belongs to the bin above
    alpha: Floats  # [b], Dirichlet parameters of the bin probabilities, summing to size + 1
    size: int

    @classmethod
    def of(cls, reference: OrderStatistics) -> Self:
        """Bins at the ranks of the reference that are nearest to LEVELS. Equal values make one edge."""
        ranks = np.asarray(reference.ranks)
        wanted = np.asarray(LEVELS) * (reference.size + 1)
        nearest = np.unique(np.abs(ranks[None, :] - wanted[:, None]).argmin(axis=1))
        edges, first = np.unique(np.asarray(reference.values, dtype=np.float64)[nearest], return_index=True)
        inner = ranks[nearest][first]
        return cls(edges, np.diff(inner, prepend=0, append=reference.size + 1).astype(np.float64), reference.size)

    def index(self, values: Floats) -> NDArray[np.intp]:
        """The bin of each value, 0 to b - 1. values: float [n], finite, jittered like the reference."""
        found: NDArray[np.intp] = np.searchsorted(self.edges, values, side="right")
        return found

    @cached_property
    def shares(self) -> Floats:
        """Expected probability of each bin: float [b], summing to 1."""
        result: Floats = self.alpha / self.alpha.sum()
        return result

    @cached_property
    def middles(self) -> Floats:
        """Mean reference rank of each bin, as a share in 0..1: float [b]."""
        result: Floats = np.cumsum(self.shares) - self.shares / 2
        return result

    @cached_property
    def normal_scores(self) -> Floats:
        """Mean of a standard normal between the bin's ranks, float [b]: (phi(a) - phi(b)) / share.

        On this scale a shift of theta standard deviations of normal data is the tilt exp(theta z).
        """
        normal = NormalDist()
        inner = [normal.pdf(normal.inv_cdf(level)) for level in np.cumsum(self.shares)[:-1]]
        density = np.array([0.0, *inner, 0.0])
        result: Floats = (density[:-1] - density[1:]) / self.shares
        return result

    @cached_property
    def extreme(self) -> NDArray[np.bool_]:
        """Which bins lie above the edge nearest to the reference's 95 % point: bool [b]."""
        starts = np.cumsum(self.shares) - self.shares
        starts[0] = -1.0
        result: NDArray[np.bool_] = np.arange(len(starts)) >= np.abs(starts - EXTREME).argmin()
        return result

    def shift(self, counts: Floats) -> float:
        """Mean reference rank of the counted values, minus 1/2: in -.5..+.5; 0 without values. counts: [b]."""
        total = float(counts.sum())
        return float(counts @ self.middles) / total - 0.5 if total else 0.0
