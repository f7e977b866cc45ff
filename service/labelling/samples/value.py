"""The worth of a label: how surprising a score is under the reference of its model version. Pure.

The surprise is -log of the probability that a reference score is larger. Inside the reference this probability is
empirical. Above it an exponential tail keeps the worst inputs distinct. Below it the probability of a smaller score
falls hyperbolically, which never underflows, as an exponential would. Quantiles make versions comparable; raw scores do
not.
"""

import math
import sys
from bisect import bisect_left, bisect_right

from models.contract.manifest import OrderStatistics

TAIL_SHARE = 0.1  # the spread of this part of the reference sets the tail's scale


def surprise(score: float, reference: OrderStatistics) -> float:
    """Nats of surprise: finite, at least 0, strictly increasing in the score within the precision of floats.

    score: finite, on the scale of the reference. The value at rank r of m has probability r/(m + 1)
    of not being exceeded (Weibull's plotting position), linear between the ranks kept.
    """
    ranks, values = reference.ranks, reference.values
    i = bisect_right(values, score)
    if i == len(values):
        excess = (score - values[-1]) / _scale(reference)
        return min(_nats(ranks[-1], reference) + excess, sys.float_info.max)
    if i == 0:
        return _nats(ranks[0] / (1 + (values[0] - score) / _scale(reference)), reference)
    share = (score - values[i - 1]) / (values[i] - values[i - 1])
    return _nats(ranks[i - 1] + share * (ranks[i] - ranks[i - 1]), reference)


def _nats(rank: float, reference: OrderStatistics) -> float:
    return -math.log1p(-rank / (reference.size + 1))


def _scale(reference: OrderStatistics) -> float:
    """Scale of the exponential through the largest value and the start of the upper tail.

    If the reference has no spread there, its whole range sets the scale; if it has none at all, its magnitude does.
    """
    ranks, values = reference.ranks, reference.values
    top = values[-1]
    start = bisect_left(ranks, (1 - TAIL_SHARE) * (reference.size + 1))
    start = max(min(start, bisect_left(values, top) - 1), 0)
    floor = 1e-9 * max(abs(top), abs(values[0]), 1.0)
    nats = _nats(ranks[-1], reference) - _nats(ranks[start], reference)
    return max((top - values[start]) / nats, floor) if nats > 0 else max(abs(top), 1.0)
