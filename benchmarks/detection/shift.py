"""Failure scores under shift, and ways to rank images by both numbers of the verdict, the score and the OOD score.

The shipped verdict flags what exceeds either threshold (decision 0007). Which order both numbers together give best is
chosen on held-out images of `train` shifted beyond the training's own changes (benchmarks.detection.selection),
not on the corruptions of the comparison.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from models.evaluation import metrics

Array = NDArray[np.float64]
Pair = tuple[Array, Array]  # scores and OOD scores of the same images, [n] each
OOD_LEVEL = 0.01  # share of calibration images beyond the OOD threshold
OOD_SHARE = 0.1  # of a flag budget, where both thresholds move


def score_alone(images: Pair, _calibration: Pair) -> Array:
    """The order in which flagged images wait to be labelled."""
    return _ranks(images[0])


def ood_flag_first(images: Pair, calibration: Pair) -> Array:
    """Beyond the OOD threshold first, by OOD score; the rest by score: the score threshold moves past the others."""
    return np.where(_far(images, calibration), images[0].size + _ranks(images[1]), _ranks(images[0]))


def ood_flag_first_by_score(images: Pair, calibration: Pair) -> Array:
    """The same, but what lies beyond the OOD threshold is ordered by score as well."""
    return _ranks(images[0]) + np.where(_far(images, calibration), images[0].size, 0)


def smaller_tail(images: Pair, calibration: Pair) -> Array:
    """The smaller of both tail shares among calibration images; equal ones by score."""
    return _by_tails(images, calibration, (1.0, 1.0))


def budget_tail(images: Pair, calibration: Pair) -> Array:
    """The smallest flag budget that flags an image when a tenth of it is the OOD score's; equal ones by score."""
    return _by_tails(images, calibration, (1 - OOD_SHARE, OOD_SHARE))


RULES: Mapping[str, Callable[[Pair, Pair], Array]] = {
    "score alone": score_alone,
    "OOD flag first, by OOD score": ood_flag_first,
    "OOD flag first, by score": ood_flag_first_by_score,
    "smaller tail share": smaller_tail,
    "smallest flag budget, a tenth for OOD": budget_tail,
}


def aurocs(scores: Mapping[str, Array], losses: Array, failure_level: float) -> dict[str, float]:
    """AUROC of failures of each score; NaN where all or none fail."""
    return {name: metrics.auroc(one, losses > failure_level) for name, one in scores.items()}


def _far(images: Pair, calibration: Pair) -> NDArray[np.bool_]:
    known = np.sort(calibration[1])
    return np.asarray(images[1] > known[min(known.size, math.ceil((known.size + 1) * (1 - OOD_LEVEL))) - 1])


def _by_tails(images: Pair, calibration: Pair, shares: tuple[float, float]) -> Array:
    tails = [
        (1 + known.size - np.searchsorted(np.sort(known), values)) / (known.size + 1) / share
        for values, known, share in zip(images, calibration, shares, strict=True)
    ]
    order = np.lexsort((images[0], -np.minimum(*tails)))
    ranks = np.empty(order.size)
    ranks[order] = np.arange(order.size)
    return ranks


def _ranks(values: Array) -> Array:
    return values.argsort(kind="stable").argsort(kind="stable").astype(np.float64)
