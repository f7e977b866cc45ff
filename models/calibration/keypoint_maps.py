"""The loss maps of keypoints: one `LossMap` each, side by side, so that the graph applies all of them at once.

One map for all of them is right on average over keypoints but not for each: hips are off by less than wrists at the
same score (docs/detection.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.loss_map import LossMap, fit_loss_map

FEWEST = 50  # annotations of a keypoint, below which the map of all keypoints serves for it

Columns = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class KeypointMaps:
    """Maps of k keypoints with m knots at most; where one has fewer its last knot is repeated, with no slope."""

    maps: Sequence[LossMap]

    @property
    def knots(self) -> Columns:
        """[k, m]."""
        return self._padded([one.knots for one in self.maps], repeat=True)

    @property
    def values(self) -> Columns:
        """[k, m]."""
        return self._padded([one.values for one in self.maps], repeat=True)

    @property
    def slopes(self) -> Columns:
        """[k, m]."""
        return self._padded([one.slopes for one in self.maps])

    @property
    def widths(self) -> Columns:
        """[k, m]."""
        return self._padded([one.widths for one in self.maps])

    @property
    def left_rate(self) -> Columns:
        """[k]."""
        return np.array([one.left_rate for one in self.maps], np.float32)

    def __call__(self, scores: NDArray[np.floating]) -> Columns:
        """scores: [n, k] -> predicted losses [n, k]."""
        return np.stack([one(column) for one, column in zip(self.maps, scores.T, strict=True)], axis=1)

    def _padded(self, rows: Sequence[Columns], *, repeat: bool = False) -> Columns:
        longest = max(row.size for row in rows)
        return np.stack(
            [np.append(row, np.full(longest - row.size, row[-1] if repeat else 0, np.float32)) for row in rows]
        )


def fit_keypoint_maps(scores: NDArray[np.floating], losses: NDArray[np.float64]) -> KeypointMaps:
    """scores: [n, k]; losses: [n, k], NaN where not annotated. Raises ValueError as `fit_loss_map`."""
    there = ~np.isnan(losses)
    whole = fit_loss_map(scores[there], losses[there])
    return KeypointMaps(
        [
            fit_loss_map(score[seen], loss[seen]) if seen.sum() >= FEWEST else whole
            for score, loss, seen in zip(scores.T, losses.T, there.T, strict=True)
        ]
    )
