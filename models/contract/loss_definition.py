"""The losses that a manifest can declare: a service can then compute the loss of a label without the task's code.

A declaration is data with its arithmetic: arrays in, arrays out. Coordinates are canvas pixels.
"""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.contract.fields import Part, Positive

Array = NDArray[np.float64]
Pair = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


class TorsoScale(Part):
    """A length of each pose that divides its errors, also for poses whose torso is not annotated.

    If a diagonal of the torso is annotated, the scale is the longest one: perspective shortens it least. Otherwise
    every annotated limb gives an estimate, its length times its ratio, and the scale is their median. Without any
    limb the scale follows from the extent of the annotated points.
    """

    kind: Literal["torso"] = "torso"
    diagonals: tuple[Pair, ...] = Field(min_length=1)  # indices into the names of the task, as those of `limbs`
    limbs: tuple[Pair, ...]
    ratios: tuple[Positive | None, ...]  # torso to each limb; None: unknown, the limb is not used
    extent_ratio: Positive  # torso to the larger side of the box around all annotated points
    smallest: Positive  # a scale is at least this: points at one place have no length

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.limbs) != len(self.ratios):
            raise ValueError("as many ratios as limbs are needed")
        return self

    @property
    def points(self) -> int:
        """The number of points that a pose must have at least."""
        return 1 + max(max(pair) for pair in (*self.diagonals, *self.limbs))

    def __call__(self, targets: NDArray[np.floating]) -> Array:
        """targets: [n, k, 2] in any pixels, NaN for missing points -> scales [n] in them, at least `smallest`."""
        ratios = np.array([np.nan if ratio is None else ratio for ratio in self.ratios], np.float64)
        diagonals = lengths(targets, self.diagonals)
        estimates = lengths(targets, self.limbs) * ratios
        torso = np.array([_first(*row) for row in zip(diagonals, estimates, strict=True)], np.float64)
        torso = np.where(np.isfinite(torso), torso, extent(targets) * self.extent_ratio)
        return np.asarray(np.maximum(np.nan_to_num(torso), self.smallest), np.float64)


class KeypointLoss(Part):
    """The mean Euclidean error of the annotated points, in canvas pixels or divided by a scale of the labels."""

    kind: Literal["keypoints"] = "keypoints"
    scale: TorsoScale | None = None
    cap: Positive | None = None  # of the loss of one point, after it is divided

    def each(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> Array:
        """preds, targets: [n, k, 2] in canvas pixels -> losses of points [n, k]; NaN marks points without a label."""
        errors = np.linalg.norm(np.asarray(preds, np.float64) - targets, axis=-1)
        if self.scale is not None:
            errors = errors / self.scale(targets)[:, None]
        return np.asarray(errors if self.cap is None else np.minimum(errors, self.cap), np.float64)

    def __call__(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> Array:
        """Takes what `each` takes -> the loss of each input [n], NaN where no point is annotated."""
        losses = self.each(preds, targets)
        there = np.isfinite(losses)
        sums, counts = np.where(there, losses, 0).sum(axis=1), there.sum(axis=1)
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), np.float64)


class VectorLoss(Part):
    """The mean absolute error of the values, their mean squared error, or the Euclidean length of the difference."""

    kind: Literal["vector"] = "vector"
    error: Literal["absolute", "squared", "euclidean"]
    cap: Positive | None = None  # of the loss of one input

    def __call__(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> Array:
        """preds, targets: [n, k] -> losses [n]."""
        difference = np.asarray(preds, np.float64) - targets
        if self.error == "absolute":
            losses = np.abs(difference).mean(axis=1)
        elif self.error == "squared":
            losses = np.square(difference).mean(axis=1)
        else:
            losses = np.linalg.norm(difference, axis=1)
        return np.asarray(losses if self.cap is None else np.minimum(losses, self.cap), np.float64)


LossDefinition = Annotated[KeypointLoss | VectorLoss, Field(discriminator="kind")]


def lengths(targets: NDArray[np.floating], pairs: tuple[Pair, ...]) -> Array:
    """targets: [n, k, 2] -> distances between the points of each pair [n, pairs]; NaN where one is missing."""
    ends = np.array(pairs, np.intp).reshape(-1, 2)
    points = np.asarray(targets, np.float64)[:, ends]
    return np.asarray(np.linalg.norm(points[:, :, 0] - points[:, :, 1], axis=-1), np.float64)


def extent(targets: NDArray[np.floating]) -> Array:
    """targets: [n, k, 2] -> the larger side of the box around the annotated points [n], 0 without any."""
    points, there = np.asarray(targets, np.float64), np.isfinite(targets)
    high = points.max(axis=1, initial=-np.inf, where=there)
    low = points.min(axis=1, initial=np.inf, where=there)
    return np.asarray((high - low).max(axis=1).clip(min=0), np.float64)


def _first(diagonals: Array, estimates: Array) -> float:
    seen, guesses = diagonals[np.isfinite(diagonals)], estimates[np.isfinite(estimates)]
    if seen.size:
        return float(seen.max())
    return float(np.median(guesses)) if guesses.size else float("nan")
