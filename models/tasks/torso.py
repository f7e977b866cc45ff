"""The torso length of a pose: the unit in which its errors count, fitted to training poses.

A diagonal goes from a shoulder to the opposite hip. `models.contract.loss_definition.TorsoScale` explains the use of
the scale, and its value where no diagonal is annotated. Ratios are medians over the training poses whose torso is
annotated.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.contract.loss_definition import TorsoScale, extent, lengths

DIAGONALS = (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip"))
_CHAINS = (
    ("{}_ankle", "{}_knee", "{}_hip", "{}_shoulder", "{}_elbow", "{}_wrist"),
    ("{}_shoulder", "neck"),
)
LIMBS = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("neck", "head_top"),
    *(pair for side in ("left", "right") for chain in _CHAINS for pair in pairwise(n.format(side) for n in chain)),
)
SMALLEST_PX = 1.0
EXTENT_RATIO = 0.5  # torso to the larger side of the box of all joints, if no training pose gives it


def fit_torso_scale(names: tuple[str, ...], targets: NDArray[np.floating]) -> TorsoScale:
    """From training poses [n, k, 2] of the joints `names`, NaN for missing ones. A limb in no pose is not used."""
    diagonals, limbs = (_indices(names, pairs) for pairs in (DIAGONALS, LIMBS))
    found = lengths(targets, diagonals)
    torso = found.max(axis=1, initial=0, where=np.isfinite(found))
    known = torso > 0
    ratios = [_median(torso[known] / np.maximum(limb[known], SMALLEST_PX)) for limb in lengths(targets, limbs).T]
    of_extent = _median(torso[known] / np.maximum(extent(targets)[known], SMALLEST_PX))
    return TorsoScale(
        diagonals=diagonals,
        limbs=limbs,
        ratios=tuple(ratios),
        extent_ratio=EXTENT_RATIO if of_extent is None else of_extent,
        smallest=SMALLEST_PX,
    )


def _indices(names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[int, int], ...]:
    return tuple((names.index(first), names.index(second)) for first, second in pairs)


def _median(values: NDArray[np.float64]) -> float | None:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if there.size else None
