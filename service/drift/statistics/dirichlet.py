"""The Dirichlet-multinomial distribution, and log Gamma for arrays: numpy lacks it, and the service has no scipy."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALF_LOG_TAU = 0.5 * float(np.log(2 * np.pi))
SHIFT = 8  # from here on the series is exact to 1e-13


def log_gamma(x: Floats) -> Floats:
    """Logarithm of Gamma(x) for x > 0, [...], elementwise: Stirling's series above 8, recurrence below it.

    Abramowitz and Stegun 6.1.41 and 6.1.15.
    """
    low = x < SHIFT
    small = x[low]
    y = x + SHIFT * low
    square = 1 / (y * y)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / y
    result = np.asarray((y - 0.5) * np.log(y) - y + HALF_LOG_TAU + series)
    result[low] -= np.log(np.multiply.reduce([small + step for step in range(SHIFT)]))
    return result


def log_dirichlet_multinomial(counts: Floats, alpha: Floats) -> Floats:
    """Log probability of a sequence with these counts, if its bin probabilities are Dirichlet(alpha).

    counts: [..., b], not necessarily whole. alpha: [..., b]. Returns [...]. It is that of the sequence,
    not of the counts: the multinomial coefficient cancels in ratios (Johnson, Kotz and Balakrishnan 1997, 35.13.1).
    """
    total = alpha.sum(axis=-1)
    bins = (log_gamma(alpha + counts) - log_gamma(alpha)).sum(axis=-1)
    result: Floats = bins + log_gamma(total) - log_gamma(total + counts.sum(axis=-1))
    return result
