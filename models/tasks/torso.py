"""The torso length of a pose: the unit in which its errors count, also where the torso is not annotated.

Where a diagonal (shoulder to the opposite hip) is annotated it is the longer of the two, which perspective
shortens least. Else every other annotated limb gives an estimate, its length times the median ratio that it
has to the torso in the training images, and the median of these counts. Else the extent of what is there.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
SMALLEST_PX = 1.0  # of a scale: joints on one spot have no length to measure by
EXTENT_RATIO = 0.5  # torso to the larger side of all joints' box, when there is nothing else to go by


@dataclass(frozen=True, slots=True)
class TorsoScale:
    """Torso lengths of poses whose joints are `names`; ratios of the torso to each of `LIMBS`, and to the extent."""

    names: tuple[str, ...]
    ratios: tuple[float, ...]
    extent_ratio: float

    @classmethod
    def fit(cls, names: tuple[str, ...], targets: NDArray[np.floating]) -> Self:
        """From training poses [n, k, 2] with NaN for what is missing; a limb that is never there is never used."""
        torso = _lengths(names, targets, DIAGONALS).max(axis=1, initial=0, where=_there(names, targets, DIAGONALS))
        known = torso > 0
        limbs, extent = _lengths(names, targets, LIMBS), _extent(targets)
        ratios = tuple(_median(torso[known] / np.maximum(limb[known], SMALLEST_PX)) for limb in limbs.T)
        found = _median(torso[known] / np.maximum(extent[known], SMALLEST_PX))
        return cls(names, ratios, found if np.isfinite(found) else EXTENT_RATIO)

    def __call__(self, targets: NDArray[np.floating]) -> Array:
        """targets: [n, k, 2] in any pixels, NaN for what is missing -> torso lengths [n] in them, at least one."""
        diagonals = _lengths(self.names, targets, DIAGONALS)
        estimates = _lengths(self.names, targets, LIMBS) * np.array(self.ratios)
        torso = np.array([_first(*row) for row in zip(diagonals, estimates, strict=True)])
        torso = np.where(np.isfinite(torso), torso, _extent(targets) * self.extent_ratio)
        return np.asarray(np.maximum(np.nan_to_num(torso), SMALLEST_PX), np.float64)


def _first(diagonals: Array, estimates: Array) -> float:
    seen, guesses = diagonals[np.isfinite(diagonals)], estimates[np.isfinite(estimates)]
    return float(seen.max()) if seen.size else _median(guesses)


def _median(values: Array) -> float:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if there.size else float("nan")


def _lengths(names: tuple[str, ...], targets: NDArray[np.floating], limbs: tuple[tuple[str, str], ...]) -> Array:
    """[n, limbs]; NaN where an end is missing."""
    ends = np.array([[names.index(name) for name in limb] for limb in limbs])
    points = np.asarray(targets, np.float64)[:, ends]
    return np.asarray(np.linalg.norm(points[:, :, 0] - points[:, :, 1], axis=-1))


def _there(
    names: tuple[str, ...], targets: NDArray[np.floating], limbs: tuple[tuple[str, str], ...]
) -> NDArray[np.bool_]:
    return np.isfinite(_lengths(names, targets, limbs))


def _extent(targets: NDArray[np.floating]) -> Array:
    """The larger side of the box around the annotated joints: [n], 0 without any."""
    points, there = np.asarray(targets, np.float64), np.isfinite(targets)
    high = points.max(axis=1, initial=-np.inf, where=there)
    low = points.min(axis=1, initial=np.inf, where=there)
    return np.asarray((high - low).max(axis=1).clip(min=0))
