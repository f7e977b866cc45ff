"""How much of the error budget an attempt has: labels that judged once are weaker evidence the next time.

The k-th attempt on the same labels has alpha_k = 0.05 * 6 / (pi^2 k^2). However many attempts there are, these add up
to at most 5 % (Basel's sum), so the chance that a worse candidate gets through in any of them stays below it.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from scipy import stats

LEVEL = 0.05
MOST_ATTEMPTS = 5


def alpha_of(attempt: int) -> float:
    """The level of the `attempt`-th attempt, from 1, on the same labels. Raises ValueError below 1."""
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    return LEVEL * 6 / (math.pi * attempt) ** 2


def choose_attempt(looks: Mapping[str, int]) -> tuple[int, list[str]]:
    """The attempt number, and the labels to judge with, given how often each label has judged before.

    looks: by sample id. A label that has judged `MOST_ATTEMPTS` times is used up. Fresh labels allow a larger alpha,
    and more labels a narrower interval: of the cuts "labels that judged at most j times", the one with the narrowest
    interval is taken. The attempt is j + 1. So a label's attempts have numbers that increase, and the alphas of all
    attempts that used one label add up to at most 5 %. Without a usable label: the first attempt that is too late.
    """
    counts = Counter(times for times in looks.values() if times < MOST_ATTEMPTS)
    if not counts:
        return (MOST_ATTEMPTS + 1 if looks else 1), []
    widths = {}
    for cut in sorted(counts):
        labels = sum(number for times, number in counts.items() if times <= cut)
        widths[cut] = stats.norm.isf(alpha_of(cut + 1)) / math.sqrt(labels)
    best = min(widths, key=lambda cut: widths[cut])
    return best + 1, [sample for sample, times in looks.items() if times <= best]


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses are rejected, so that any true one is with probability of at most `level` (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda row: p_values[row])
    rejected = [False] * len(p_values)
    for step, row in enumerate(order):
        if p_values[row] > level / (len(p_values) - step):
            break
        rejected[row] = True
    return rejected


def looks_of(samples: Collection[str], attempts: Sequence[Collection[str]]) -> dict[str, int]:
    """How many of the earlier attempts each sample has judged in."""
    counts = Counter(sample for attempt in attempts for sample in attempt)
    return {sample: counts[sample] for sample in samples}
