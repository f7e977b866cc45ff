"""The design effect D of a signal's traffic: n dependent observations count as n / D independent ones.

D = 1 + 2 (sum of autocorrelations) = lim B var(mean of B consecutive) / var (Kish 1965; batch means: Geyer 1992, 3.2).
A replica cuts its observations, in order of arrival, into blocks. It adds up squared differences of neighbouring batch
means, for batches of 1, 2, 4, ... (Allan 1966). These are sums, so flushes and replicas add up. Drift looks like a
single shift of level, which enters only one difference of each size; a plain variance of batch means would take it for
dependence. All values are normal scores of bins, in units of the reference's variance.

The statistics of a signal are one vector [SIZE]: the number of blocks, then the sums for each batch size.
"""

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics.bins import Bins

BLOCK = 512  # consecutive observations of one replica
BATCHES = 2 ** np.arange(9)  # 1, 2, 4, ... 256 observations
SIZE = 1 + len(BATCHES)
ENOUGH_PAIRS = 16  # an estimate needs so many pairs of its batch size
ENOUGH_BLOCKS = 2  # D is known from so many blocks on
Z_LOW = 2.576  # half a percent of a standard normal lies below its negative
NOISE = 3.0  # standard errors of one estimate; independent traffic exceeds it in one of ten or twenty
HALF_LIFE = 512.0  # blocks, after which an observation has half its weight

Floats = NDArray[np.float64]


def cut(waiting: Floats) -> tuple[Floats, Floats]:
    """Cuts observations in order of arrival, [n], into whole blocks [k, BLOCK] and the rest [n - k BLOCK]."""
    whole = len(waiting) - len(waiting) % BLOCK
    return waiting[:whole].reshape(-1, BLOCK), waiting[whole:]


def statistics(blocks: Floats) -> Floats:
    """The statistics of blocks of normal scores. blocks: [..., k, BLOCK]. Returns [..., SIZE].

    For batches of B: the sum over pairs of neighbours of (mean - mean)^2 B / 2, whose expectation is D var for large B.
    """
    means = blocks
    sums = [np.full(blocks.shape[:-2], float(blocks.shape[-2]))]
    for batch in BATCHES:
        first, second = means[..., 0::2], means[..., 1::2]
        sums.append(((first - second) ** 2).sum(axis=(-2, -1)) * batch / 2)
        means = (first + second) / 2
    return np.stack(sums, axis=-1)


def update(state: Floats, new: Floats) -> Floats:
    """Statistics [..., SIZE] with new ones added. Older ones lose weight with HALF_LIFE."""
    return state * 0.5 ** (new[..., :1] / HALF_LIFE) + new


def is_known(state: Floats) -> NDArray[np.bool_]:
    """Whether there are enough blocks to know D, [...]."""
    # The first block has lost a little weight when the second comes.
    known: NDArray[np.bool_] = state[..., 0] >= ENOUGH_BLOCKS - 0.5
    return known


def variance(bins: Bins) -> float:
    """Variance of the bins' normal scores under the reference: a little below 1."""
    return float(bins.shares @ bins.normal_scores**2 - (bins.shares @ bins.normal_scores) ** 2)


def design_effect(state: Floats, bins: Bins, replicas: Floats | float = 1.0) -> Floats:
    """D >= 1, [...]: the largest estimate over the batch sizes B that have enough pairs.

    replicas: the number r that share the traffic in turn (n^2 / sum n_i^2, for n_i images on replica i). Each saw every
    r-th observation, and so an r-th of the autocorrelations: the true D - 1 is r times as large. Only the part of D - 1
    beyond the error of the estimate is multiplied: else independent traffic would count less with each replica.
    The bias of batch means falls like 1 / B, so 2 D(2B) - D(B) at the largest sizes is an estimate without it (lugsail
    batch means: Vats and Flegal 2022, Biometrika 109). While pairs are few, the upper end of the interval of D - 1 is
    used: a D that is too small causes false alarms, one that is too large only costs time.
    """
    pairs = state[..., :1] * (BLOCK // 2) / BATCHES
    usable = pairs >= ENOUGH_PAIRS
    estimates = np.where(usable, state[..., 1:] / np.maximum(pairs, 1e-9) / variance(bins), 0.0)
    last = np.maximum(usable.sum(axis=-1) - 1, 1)[..., None]
    top = np.take_along_axis(estimates, last, axis=-1)[..., 0]
    before = np.take_along_axis(estimates, last - 1, axis=-1)[..., 0]
    seen: Floats = np.maximum(np.maximum(estimates.max(axis=-1), 2 * top - before), 1.0)
    fewest = np.maximum(np.take_along_axis(pairs, last, axis=-1)[..., 0], ENOUGH_PAIRS)
    excess = np.maximum(seen - 1.0 - NOISE * np.sqrt(2.0 / fewest), 0.0)
    return 1.0 + (seen - 1.0 + (replicas - 1.0) * excess) / _low_quantile(fewest)


def _low_quantile(n: Floats) -> Floats:
    """The 0.5 % quantile of a chi-squared variable with n degrees of freedom, over n: .32 for 16, .89 for 1,000.

    Wilson and Hilferty 1931, Proceedings of the National Academy of Sciences 17. Dividing an
    estimate by it gives the upper end of the interval for the variance.
    """
    spread = 2 / (9 * n)
    result: Floats = (1 - spread - Z_LOW * np.sqrt(spread)) ** 3
    return result
