"""The OOD score: how far an embedding lies from the embeddings that the model was calibrated with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import LedoitWolf


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
