"""References of the calibration inputs beside order statistics: predicted losses and embeddings."""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.contract.fields import Finite, Part

MAX_DIRECTIONS: Final = 32


class LossReference(Part):
    """Predicted losses of the calibration inputs, one of each source, in the unit of the loss."""

    mean_predicted_loss: Finite
    sd: Finite = Field(ge=0)
    n: int = Field(gt=0)


class EmbeddingReference(Part):
    """Directions in which embeddings are watched. In them the reference has mean 0 and unit covariance.

    whitened = projection @ embedding - offset
    """

    size: int = Field(gt=0)  # number of embeddings it was made from, one of each source
    projection: tuple[tuple[Finite, ...], ...] = Field(min_length=1, max_length=MAX_DIRECTIONS)  # [d][e]
    offset: tuple[Finite, ...]  # [d]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.projection) != len(self.offset):
            raise ValueError("as many offsets as directions are needed")
        if len({len(row) for row in self.projection}) != 1:
            raise ValueError("the directions must be of one length")
        return self

    @property
    def embedding_size(self) -> int:
        return len(self.projection[0])

    def whitening(self) -> "Whitening":
        return Whitening(self)


class Whitening:
    """An `EmbeddingReference` as arrays: build it once and use it often."""

    def __init__(self, reference: EmbeddingReference) -> None:
        self._projection = np.array(reference.projection, np.float64).T  # [e, d]
        self._offset = np.array(reference.offset, np.float64)  # [d]

    def __call__(self, sums: NDArray[np.floating], n: int = 1) -> NDArray[np.float64]:
        """sums: [..., e], each of n embeddings -> sums of the whitened ones, [..., d]. NaN and infinity stay."""
        whitened: NDArray[np.float64] = np.asarray(sums, np.float64) @ self._projection - n * self._offset
        return whitened
