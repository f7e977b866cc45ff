"""How many independent observations a signal's traffic is worth: its design effect D, so that n count as n / D.

D = 1 + 2 (sum of autocorrelations) = lim B var(mean of B in a row) / var (Kish 1965; batch means: Geyer 1992, 3.2). A
replica cuts what it saw, in order of arrival, into blocks, and adds up squared differences of neighbouring batch means
for batches of 1, 2, 4, ... (Allan 1966): sums, so they add over flushes and replicas. A single shift of level, which is
what drift looks like, falls into one difference of each size; a plain variance of batch means would take it for
dependence. Everything is on normal scores of bins, in units of the reference's variance.

The statistics of a signal are one vector [SIZE]: how many blocks, then the sums for each size of batch.
"""

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics.bins import Bins

BLOCK = 512  # observations of one replica
BATCHES = 2 ** np.arange(9)  # 1, 2, 4, ... 256 observations
SIZE = 1 + len(BATCHES)
ENOUGH_PAIRS = 16  # of a batch size, before its estimate is used
ENOUGH_BLOCKS = 2  # before D counts as known
Z_LOW = 2.576  # of a standard normal: one half of a percent lies below its negative
NOISE = 3.0  # standard errors of one estimate: independent traffic exceeds it in one of ten or twenty
HALF_LIFE = 512.0  # blocks after which an observation counts half

Floats = NDArray[np.float64]


def cut(waiting: Floats) -> tuple[Floats, Floats]:
    """What a replica has in order of arrival, [n], as whole blocks [k, BLOCK] and the rest [n - k BLOCK]."""
    whole = len(waiting) - len(waiting) % BLOCK
    return waiting[:whole].reshape(-1, BLOCK), waiting[whole:]


def statistics(blocks: Floats) -> Floats:
    """What blocks of normal scores add. blocks: [..., k, BLOCK]. Returns [..., SIZE].

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
    """Statistics [..., SIZE] with new ones added, older ones forgotten by and by."""
    return state * 0.5 ** (new[..., :1] / HALF_LIFE) + new


def is_known(state: Floats) -> NDArray[np.bool_]:
    """Whether there is enough to judge by, [...]."""
    # The first is a little forgotten when the second comes.
    known: NDArray[np.bool_] = state[..., 0] >= ENOUGH_BLOCKS - 0.5
    return known


def variance(bins: Bins) -> float:
    """Of the normal scores of the bins, under the reference: a little below 1."""
    return float(bins.shares @ bins.normal_scores**2 - (bins.shares @ bins.normal_scores) ** 2)


def design_effect(state: Floats, bins: Bins, replicas: Floats | float = 1.0) -> Floats:
    """D >= 1, [...]: the largest estimate over the sizes of batches B that have pairs enough.

    replicas: over how many the traffic was dealt out in turn (n^2 / sum n_i^2 of their counts n_i). Each saw every
    r-th observation and so an r-th of the autocorrelations: D - 1 is r times as large. That goes for as much of it as
    is more than the estimate's own error: else independent traffic would count less the more replicas there are.
    What batches miss falls like 1 / B, so that 2 D(2B) - D(B) at the largest is an estimate without it (lugsail batch
    means: Vats and Flegal 2022, Biometrika 109). While pairs are few, D - 1 is taken at the upper end of its interval:
    too small a D makes false alarms, too large a one costs time.
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
    """Of a chi-squared variable of n degrees of freedom over n, at one half of a percent: .32 for 16, .89 for 1,000.

    Wilson and Hilferty 1931, Proceedings of the National Academy of Sciences 17. A sum of n squares that came out so
    low stands for a variance that is as much larger.
    """
    spread = 2 / (9 * n)
    result: Floats = (1 - spread - Z_LOW * np.sqrt(spread)) ** 3
    return result
