"""From raw scores to what is promised: thresholds, the loss map, and references for drift and OOD.

Arrays of the calibration split go in, frozen records that the exporter writes come out. All of it is
pure, and nothing here may see data that chose the head, the score or the OOD reference.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from sklearn.covariance import LedoitWolf

from models.contract.manifest import OrderStatistics

MAX_BINS = 30
MIN_SLOPE = 1e-3  # in mean losses per score spread: far above what float32 can resolve, too small to matter
MIN_GAP = 1e-2  # between knots, in score spreads: keeps slopes finite in float32
SAME_SPREAD = 1e-12  # scores within it count as equal: their slopes would leave float32
TOP_SHARE = 0.25  # of the calibration data, from which the right tail takes its slope


def budget_threshold(scores: ArrayLike, level: float) -> float:
    """Threshold that a new score exceeds with probability at most `level`.

    scores: float [n], calibration scores, exchangeable with the new one; higher is worse.
    level: the budget, in (0, 1). Returns the ceil((n + 1)(1 - level))-th smallest score, the rank of
    split-conformal prediction (Papadopoulos et al. 2002; Vovk et al. 2005); ties only lower the
    probability. Raises ValueError on NaN, on a level outside (0, 1) and when n is too small for it.
    """
    values = _checked(scores)
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not at {level}")
    exceeding = math.floor((values.size + 1) * Fraction(str(level)))  # exact: floats put 100 * 0.29 below 29
    if exceeding < 1:
        raise ValueError(
            f"{values.size} calibration scores cannot promise a level of {level:g}: "
            f"at least {math.ceil(1 / Fraction(str(level))) - 1} are needed"
        )
    return float(np.sort(values)[values.size - exceeding])


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
    x, y = _checked(scores), _checked(losses)
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


def order_statistics(values: ArrayLike, bins: int) -> OrderStatistics:
    """The reference `values` [n], kept at `bins` + 1 evenly spread ranks and denser at the top.

    Ranks 1 and n are always there, and n - 1, n - 3, n - 7, ... down to the last even step, so that the
    upper tail can be read at log-spaced probabilities. Equal values are kept once for each rank.
    """
    ordered = np.sort(_checked(values))
    n = ordered.size
    even = np.round(np.linspace(1, n, bins + 1)).astype(int)
    top = n + 1 - 2 ** np.arange(max(n // bins, 1).bit_length())
    ranks = np.unique(np.concatenate([even, top]))
    return OrderStatistics(
        size=n,
        ranks=tuple(int(rank) for rank in ranks),
        values=tuple(float(value) for value in ordered[ranks - 1]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """Reference of the embeddings: the OOD score is the length of `whitening @ (embedding - mean)`."""

    mean: NDArray[np.float32]  # [e]
    whitening: NDArray[np.float32]  # [e, e]

    def distance(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """embeddings: [n, e] -> Mahalanobis distances float32 [n]."""
        centred = np.asarray(embeddings, np.float32) - self.mean
        return np.asarray(np.linalg.norm(centred @ self.whitening.T, axis=-1), np.float32)


def fit_gaussian(embeddings: ArrayLike) -> Gaussian:
    """Mean and whitening of `embeddings` [n >= 2, e] under a shrunk covariance (Ledoit & Wolf 2004).

    Dimensions are brought to unit variance before shrinking, as shrinkage pulls towards a sphere. One
    that never varied takes the typical scale of the others, so that leaving its value counts.
    """
    x = np.asarray(embeddings, np.float64)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():  # noqa: PLR2004 - a matrix of at least two rows
        raise ValueError("embeddings must be a finite matrix [n, e] of at least two rows")
    mean, scale = x.mean(0), x.std(0)
    varying = scale > 1e-6 * scale.max(initial=0)  # less is rounding noise of float32
    scale[~varying] = np.median(scale[varying]) if varying.any() else 1.0
    covariance = LedoitWolf(assume_centered=True).fit((x - mean) / scale).covariance_
    variances, axes = np.linalg.eigh(covariance)
    variances = np.maximum(variances, 1e-6 * max(variances.max(), 1.0))
    whitening = (axes / np.sqrt(variances)).T / scale
    return Gaussian(mean.astype(np.float32), whitening.astype(np.float32))


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"expected numbers [n], got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("every value must be a finite number; some are NaN or infinite")
    return array


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
