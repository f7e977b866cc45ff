"""The alternatives that evidence weighs: exponential tilts of bin probabilities, in stated directions and sizes.

Location tilts exp(theta z), z being normal scores of the bins: for normal data a shift by theta standard deviations.
Spread tilts exp(kappa (z^2 - 1) / 2): the variance becomes 1 / (1 - kappa).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOCATIONS = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)  # in standard deviations
SPREADS = (-1.0, 0.5)  # half the variance, twice the variance
NUMBER = len(LOCATIONS) + len(SPREADS)
LOG_WEIGHT = -float(np.log(NUMBER))  # of each, alike


def exponents(normal_scores: Floats) -> Floats:
    """What each tilt adds to the log probability of each bin, before normalising. [b] -> [tilts, b]."""
    location = np.multiply.outer(np.array(LOCATIONS), normal_scores)
    spread = np.multiply.outer(np.array(SPREADS), (normal_scores**2 - 1) / 2)
    return np.concatenate([location, spread])


def tilted(shares: Floats, exponent: Floats) -> Floats:
    """Probabilities [..., tilts, b] that are proportional to shares * exp(exponent).

    shares: [..., tilts, b], summing to 1. exponent: [tilts, b].
    """
    weights: Floats = shares * np.exp(exponent)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights
