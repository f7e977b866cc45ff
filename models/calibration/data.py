"""The calibration split as the guarantees see it, and the one OOD threshold that all of them share."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.calibration.bounds import budget_threshold
from models.contract.manifest import Loss

OOD_BUDGET = 0.01  # share of inputs like the calibration inputs that the OOD flag alone may take
CLIP = 4.0  # failure levels: where a loss without a bound of its own is clipped
ROUNDING = 1e-9  # of sums of weights

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationData:
    """The calibration split as the bundle answers it: columns [n], n examples of m sources.

    Sources are exchangeable with those to come. Several views of one source count as one draw together:
    each weighs 1 / (number of views), and a promise is about a view of a new source.
    """

    scores: Array
    ood_scores: Array
    losses: Array  # true losses, not negative
    sources: NDArray[np.int64]  # id of the source of each
    loss: Loss

    @classmethod
    def of(
        cls, scores: ArrayLike, ood_scores: ArrayLike, losses: ArrayLike, loss: Loss, sources: ArrayLike | None = None
    ) -> "CalibrationData":
        """sources: None when every example has its own. Raises ValueError on columns that do not fit."""
        s, o, y = (np.asarray(column, np.float64) for column in (scores, ood_scores, losses))
        ids = np.arange(s.size) if sources is None else np.asarray(sources)
        if s.ndim != 1 or not s.size or any(column.shape != s.shape for column in (o, y, ids)):
            raise ValueError("scores, ood_scores, losses and sources must be columns of the same inputs")
        if not all(np.isfinite(column).all() for column in (s, o, y)) or y.min() < 0:
            raise ValueError("scores and losses must be finite, and losses not negative")
        return cls(s, o, y, np.unique(ids, return_inverse=True)[1], loss)

    @property
    def size(self) -> int:
        """m: how many independent draws there are."""
        return int(self.sources.max()) + 1

    @property
    def weights(self) -> Array:
        """[n], that add up to 1 for each source."""
        return 1 / np.bincount(self.sources)[self.sources]

    @property
    def first_views(self) -> NDArray[np.intp]:
        """[m]: the row of the first example of every source."""
        return np.unique(self.sources, return_index=True)[1]

    @property
    def failed(self) -> NDArray[np.bool_]:
        return self.losses > self.loss.failure_level

    @property
    def loss_bound(self) -> float:
        return self.loss.bound or CLIP * self.loss.failure_level

    @property
    def clipped(self) -> Array:
        return np.minimum(self.losses, self.loss_bound)


class Bracket(NamedTuple):
    """The OOD threshold with its neighbours among the order statistics of the first views.

    With the new input's OOD score among them, the threshold of the same rank lies between two neighbours:
    what is counted with the unfavourable one holds for all m + 1 inputs alike, which is all that conformal
    proofs ask for.
    """

    below: float
    used: float
    above: float


def ood_bracket(data: CalibrationData) -> Bracket:
    """Of `OOD_BUDGET`. Raises ValueError when there are too few sources for it."""
    values = np.sort(data.ood_scores[data.first_views])
    used = budget_threshold(values, OOD_BUDGET)
    rank = values.size - math.floor((values.size + 1) * OOD_BUDGET + ROUNDING)
    padded = np.concatenate(([-np.inf], values, [np.inf]))
    return Bracket(float(padded[rank]), used, float(padded[rank + 2]))
