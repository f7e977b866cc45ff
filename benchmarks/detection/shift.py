"""Failure scores under corruptions that no training saw: the shipped score, the OOD score, and both as one verdict.

The two are put together as the shipped verdict does it (decision 0007): what lies beyond the one OOD threshold is
flagged whatever its score, so it ranks above the rest, by its OOD score; the rest rank by the score. This was
fixed before any corrupted test image was looked at.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models import evaluation

Array = NDArray[np.float64]
OOD_LEVEL = 0.01  # share of calibration images beyond the OOD threshold


def both(scores: Array, ood_scores: Array, calibration_ood: Array) -> Array:
    """Ranks of the verdict that moves its score threshold: scores, ood_scores [n], calibration_ood [m] -> [n]."""
    threshold = np.sort(calibration_ood)[
        min(calibration_ood.size, math.ceil((calibration_ood.size + 1) * (1 - OOD_LEVEL))) - 1
    ]
    rank = scores.argsort(kind="stable").argsort(kind="stable").astype(np.float64)
    far = ood_scores > threshold
    return np.where(far, scores.size + ood_scores - threshold, rank)


def aurocs(scores: Mapping[str, Array], losses: Array, failure_level: float) -> dict[str, float]:
    """AUROC of failures of each score; NaN where all or none fail."""
    return {name: evaluation.auroc(one, losses > failure_level) for name, one in scores.items()}
