"""From raw scores to predicted losses: a strictly increasing map for images, and one map for each keypoint.

Scores and true losses of the calibration split go in, a frozen map that the exporter writes comes out. All of it is
pure. Neither the head, the score nor the OOD reference may have been chosen by these data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from models.calibration.bounds import checked_numbers

MAX_BINS = 30
MIN_SLOPE = 1e-3  # in mean losses per score spread: far above what float32 can resolve, too small to matter
MIN_GAP = 1e-2  # between knots, in score spreads: keeps slopes finite in float32
SAME_SPREAD = 1e-12  # scores within it count as equal: their slopes would leave float32
TOP_SHARE = 0.25  # of the calibration data, from which the right tail takes its slope
FEWEST = 50  # annotations of a keypoint, below which the map of all keypoints serves for it

Columns = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LossMap:
    """Strictly increasing map from raw score to predicted loss, in the unit of the task's loss.

    predicted = values[0] * exp(left_rate * min(score - knots[0], 0))
              + sum_k slopes[k] * min(max(score - knots[k], 0), widths[k])

    Every term is monotone by itself, so rounding cannot turn the order of two scores around; an ONNX
    graph computes the same by Sub, Clip, Exp, Mul and ReduceSum in float32.
    """

    knots: NDArray[np.float32]  # [m], strictly increasing scores
    values: NDArray[np.float32]  # [m], strictly increasing positive losses at the knots
    left_rate: float  # below the first knot the loss decays exponentially, at this rate
    right_slope: float  # above the last knot the loss grows linearly, at this slope

    @property
    def slopes(self) -> NDArray[np.float32]:
        """[m]: of the segment that begins at each knot; the last is the right tail."""
        steps = np.diff(self.values.astype(np.float64)) / np.diff(self.knots.astype(np.float64))
        return np.append(steps, self.right_slope).astype(np.float32)

    @property
    def widths(self) -> NDArray[np.float32]:
        """[m]: of the segment that begins at each knot; the last is infinite."""
        return np.append(np.diff(self.knots), np.float32(np.inf)).astype(np.float32)

    def __call__(self, scores: ArrayLike) -> NDArray[np.float32]:
        """scores: float [...] -> predicted losses float32 [...], positive."""
        distance = np.asarray(scores, np.float32)[..., None] - self.knots
        left = self.values[0] * np.exp(np.float32(self.left_rate) * np.minimum(distance[..., 0], 0))
        rise = self.slopes * np.clip(distance, 0, self.widths)
        return np.asarray(left + rise.sum(-1), np.float32)


def fit_loss_map(scores: ArrayLike, losses: ArrayLike) -> LossMap:
    """The loss map that is right on average: bins of equal mass, made monotone by isotonic regression.

    scores: float [n >= 2]; losses: float [n], true losses, not negative. Knots are the mean score and
    mean loss of each pooled block (Barlow et al. 1972), with a minimal slope between them; then the map
    is scaled so that its mean over the data is the mean loss. Raises ValueError on unusable arrays.
    """
    x, y = checked_numbers(scores), checked_numbers(losses)
    if x.size < 2 or x.size != y.size:  # noqa: PLR2004 - a map needs two points
        raise ValueError("the loss map needs at least two scores, and a loss for each")
    if y.min() < 0:
        raise ValueError("losses must not be negative")
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    level, spread = float(y.mean()) or 1e-6, _spread(x)
    slope = MIN_SLOPE * level / spread
    knots, values = _blocks(x, y)
    kept = _spaced(knots, MIN_GAP * spread)
    knots, values = knots[kept], np.maximum(values[kept], MIN_SLOPE * level)
    values = slope * knots + np.maximum.accumulate(values - slope * knots)
    right = max(slope, _top_slope(x, y, spread))
    rise = (values[1] - values[0]) / (knots[1] - knots[0]) if knots.size > 1 else right
    # The decay continues the first segment, but no faster than one e-fold per spread: positive in float32.
    rate = min(rise / values[0], 1 / spread)
    raw = LossMap(knots.astype(np.float32), values.astype(np.float32), float(rate), float(right))
    scale = level / float(raw(x).mean(dtype=np.float64))
    return LossMap(raw.knots, (values * scale).astype(np.float32), float(rate), float(right * scale))


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


def _spread(x: NDArray[np.float64]) -> float:
    """A scale of the scores, never below what float32 resolves around them; 1 when they are as good as equal."""
    spread = max(float(x.std()), 1e-4 * float(np.abs(x).max()))
    return spread if spread > SAME_SPREAD else 1.0


def _blocks(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean score and mean loss of blocks of sorted data: equal mass, ties together, losses increasing."""
    bins = min(math.isqrt(x.size) + 1, MAX_BINS)
    first_rank = np.searchsorted(x, x, side="left")  # shared by tied scores, which so share a bin
    starts = np.unique(first_rank * bins // x.size, return_index=True)[1]
    counts = np.diff(np.append(starts, x.size))
    score_sums, loss_sums = np.add.reduceat(x, starts), np.add.reduceat(y, starts)
    blocks = isotonic_regression(loss_sums / counts, weights=counts).blocks[:-1]
    mass = np.add.reduceat(counts, blocks)
    return np.add.reduceat(score_sums, blocks) / mass, np.add.reduceat(loss_sums, blocks) / mass


def _spaced(knots: NDArray[np.float64], gap: float) -> list[int]:
    """Indices of knots that lie at least `gap` to the right of the one kept before."""
    kept = [0]
    for index in range(1, knots.size):
        if knots[index] - knots[kept[-1]] >= gap:
            kept.append(index)
    return kept


def _top_slope(x: NDArray[np.float64], y: NDArray[np.float64], spread: float) -> float:
    """Regression slope of the losses at the top; the ridge keeps near ties from making it explode."""
    top = max(2, int(x.size * TOP_SHARE))
    dx, dy = x[-top:] - x[-top:].mean(), y[-top:] - y[-top:].mean()
    return float((dx * dy).mean() / ((dx * dx).mean() + (spread / 30) ** 2))
