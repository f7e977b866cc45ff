"""A Gamma law for given losses: maximum likelihood, and the distance of the losses from it.

The distance is Kolmogorov-Smirnov's, the largest gap between the two distribution functions. Its p-value comes
from a parametric bootstrap (Stute et al. 1993): samples of the fitted law, each fitted again, as the
textbook table is far too lenient once the law has been fitted to the very losses it is compared with.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.optimize import brentq

Array = NDArray[np.float64]

MIN_LOSSES = 3
LEAST_SPREAD = 1e-10  # of log mean - mean log; below it rounding decides the shape
REDRAWS = 200


@dataclass(frozen=True, slots=True)
class GammaFit:
    """Gamma(k, theta) by maximum likelihood and how well it fits."""

    k: float  # shape
    theta: float  # scale, in the unit of the losses
    n: int
    ks_distance: float  # largest gap between the two distribution functions, 0 to 1
    p_value: float  # share of samples of the fitted law at least that far from their own fit


def fit_gamma(losses: ArrayLike, redraws: int = REDRAWS, seed: int = 0) -> GammaFit:
    """Maximum-likelihood Gamma law of losses [n], all above zero, with its goodness of fit.

    A large n makes any departure significant: read the distance first. The p-value counts the losses
    themselves as one of redraws + 1 samples, so it is never 0. Raises ValueError when losses are not one
    column of at least three, not finite, not above zero, or all (nearly) equal, and on redraws < 1.
    """
    values = _positive_losses(losses)
    if redraws < 1:
        raise ValueError(f"redraws must be at least 1, not {redraws}")
    k, theta = _maximum_likelihood(values)
    distance = _ks_distance(values / theta, k)
    rng = np.random.default_rng(seed)
    as_far = sum(_distance_of_a_redraw(k, values.size, rng) >= distance for _ in range(redraws))
    return GammaFit(k, theta, values.size, distance, (1 + as_far) / (1 + redraws))


def _maximum_likelihood(values: Array) -> tuple[float, float]:
    """Solves log k - digamma(k) = log mean - mean log; theta = mean / k (Choi & Wette 1969)."""
    largest = float(values.max())
    scaled = values / largest  # so that the sum of huge losses stays finite
    mean = float(scaled.mean())
    spread = -float(np.mean(np.log(scaled / mean)))
    if not spread > LEAST_SPREAD:
        raise ValueError("losses are all equal, or nearly so: no Gamma law has such a small spread")
    # 1/(2k) < log k - digamma(k) < 1/k brackets the root.
    k = float(brentq(lambda k: np.log(k) - special.digamma(k) - spread, 0.4 / spread, 1.1 / spread, rtol=1e-12))
    return k, mean / k * largest


def _distance_of_a_redraw(k: float, n: int, rng: np.random.Generator) -> float:
    sample = np.maximum(rng.gamma(k, size=n), np.finfo(np.float64).tiny)  # a tiny shape draws zeros by underflow
    try:
        shape, scale = _maximum_likelihood(sample)
    except ValueError:  # caused only by underflow: the largest distance
        return 1.0
    return _ks_distance(sample / scale, shape)


def _ks_distance(values: Array, k: float) -> float:
    expected = special.gammainc(k, np.sort(values))
    steps = np.arange(values.size + 1) / values.size
    return float(max((steps[1:] - expected).max(), (expected - steps[:-1]).max()))


def _positive_losses(losses: ArrayLike) -> Array:
    values = np.asarray(losses, np.float64)
    if values.ndim != 1 or values.size < MIN_LOSSES:
        raise ValueError(f"losses must be one column of at least {MIN_LOSSES}, not of shape {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"losses must be finite: {np.count_nonzero(~np.isfinite(values))} are NaN or infinite")
    if (values <= 0).any():
        raise ValueError(
            f"losses must be above zero to fit a Gamma law: {np.count_nonzero(values < 0)} are negative and "
            f"{np.count_nonzero(values == 0)} are zero of {values.size}"
        )
    return values
