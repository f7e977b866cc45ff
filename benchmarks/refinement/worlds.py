"""Where the simulated labels of `benchmarks.refinement.gates` come from: real losses, in pairs with a known truth.

Live and candidate are drawn with the losses of a shipped bundle on its test split, and with a rank correlation between
the two (a Gaussian copula). So both have exactly these losses, and only the change under test makes them differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.evaluation.bundle import true_losses
from models.refinement.gates.paired import TAIL, Pairs
from models.tasks.protocol import RegressionTask

WORSE, BETTER_TAIL = 0.03, 0.05
RUINED = 0.02  # share of images that are twice as bad in `ruined`

Array = NDArray[np.float64]
Change = Callable[[Array, Array, np.random.Generator], Array]  # (losses [n], all real losses) -> changed [n]


@dataclass(frozen=True, slots=True)
class World:
    """One kind of traffic."""

    losses: Array  # [m], sorted: of a bundle on its test split
    test_images: int  # independent sources of the frozen test split
    correlation: float  # of the ranks of live and candidate
    group_size: int = 1  # labels of one group share half of their variance
    weighted: bool = False  # half of the groups stand for four times as many images of traffic

    def labels(self, rng: np.random.Generator, count: int, change: Change) -> Pairs:
        groups = np.arange(count) // self.group_size
        normal = rng.standard_normal((2, count))
        if self.group_size > 1:
            normal = np.sqrt(0.5) * (normal + rng.standard_normal((2, count))[:, groups])
        live, other = normal[0], self.correlation * normal[0] + np.sqrt(1 - self.correlation**2) * normal[1]
        weights = np.where(groups % 2, 4.0, 1.0) if self.weighted else np.ones(count)
        return Pairs(self._losses(live), change(self._losses(other), self.losses, rng), weights, groups)

    def test_split(self, rng: np.random.Generator, change: Change) -> Pairs:
        return World(self.losses, self.test_images, self.correlation).labels(rng, self.test_images, change)

    def _losses(self, normal: Array) -> Array:
        rank = (stats.norm.cdf(normal) * self.losses.size).astype(np.intp)
        return np.asarray(self.losses[np.minimum(rank, self.losses.size - 1)], np.float64)


def worse(losses: Array, known: Array, rng: np.random.Generator) -> Array:
    """Every loss exactly 3 % larger."""
    del known, rng
    return losses * (1 + WORSE)


def ruined(losses: Array, known: Array, rng: np.random.Generator) -> Array:
    """The mean exactly 3 % larger, by a few images that are twice as bad."""
    del known
    others = (1 + WORSE - 2 * RUINED) / (1 - RUINED)
    return losses * np.where(rng.random(losses.size) < RUINED, 2.0, others)


def same_tail(losses: Array, known: Array, rng: np.random.Generator) -> Array:
    """Nothing changes: no gain."""
    del known, rng
    return losses


def better_tail(losses: Array, known: Array, rng: np.random.Generator) -> Array:
    """The worst decile exactly 5 % better, all other losses as they were."""
    del rng
    quantile = np.quantile(known, 1 - TAIL)
    tail = known[known > quantile].mean()
    factor = (tail * (1 - BETTER_TAIL) - quantile) / (tail - quantile)
    return np.where(losses > quantile, quantile + factor * (losses - quantile), losses)


def real_losses(bundle: Path, task: RegressionTask) -> Array:
    """[m], sorted: one view of each test source counts, like every other."""
    return np.sort(true_losses(bundle, task))
