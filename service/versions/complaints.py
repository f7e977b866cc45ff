"""What speaks against a version on probation: counts in, a sentence out. No I/O.

Each complaint is a binomial test: too many of n images failed, were flagged, or took long. It looks when n has doubled,
LOOKS times at most, and each of the three tests may err in ALPHA of all promotions in all its looks together
(docs/decisions/0025-probation.md).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.inference.conduct import Conduct

FIRST_LOOK: Final = 10  # images
ALPHA: Final = 1 / 300  # of each test, so 1 % of all three
FAULT_SHARE: Final = 0.005  # of images, that is no complaint yet
FAULT_RISE: Final = 2.0  # of the share of the version before
FLAG_RISE: Final = 2.0  # of the promised share of flagged images
FLAG_CHANGE: Final = 1.5  # of the share that the version before flagged
MOST_FLAGGED: Final = 0.5  # of images, where that is not known: traffic may be odd for both versions
SLOW: Final = 2.0  # times the 99 % point of the version before
SLOW_SHARE: Final = 0.05  # of images, that is no complaint yet: one in a hundred is as slow as the 99 % point
FEWEST: Final = 100  # images of the version before that give a share or a 99 % point


@dataclass(frozen=True, slots=True)
class Before:
    """The version before, when the probation began; shares are None where it answered too few images here."""

    faults: float | None = None
    flagged: float | None = None
    slowest_s: float | None = None  # the 99 % point of the engine's time

    @classmethod
    def of(cls, conduct: Conduct) -> "Before":
        return cls(
            faults=conduct.faults / conduct.images if conduct.images >= FEWEST else None,
            flagged=conduct.flagged / conduct.weighed if conduct.weighed >= FEWEST else None,
            slowest_s=float(np.quantile(conduct.times_s, 0.99)) if len(conduct.times_s) >= FEWEST else None,
        )


def looks(images: int) -> list[int]:
    """The numbers of images at which a probation of so many images looks: 10, 20, 40, ..., and the last one."""
    return [*_doubled(FIRST_LOOK, images), images]


def fault_complaint(conduct: Conduct, before: Before, count: int) -> str | None:
    """count: of looks in the whole probation, for all three."""
    allowed = max(FAULT_SHARE, FAULT_RISE * (before.faults or 0.0))
    if not is_more(conduct.faults, conduct.images, allowed, ALPHA / count):
        return None
    was = "" if before.faults is None else f", and {before.faults:.1%} of the version before"
    return f"{conduct.faults} of {conduct.images} images ended in an error of the service{was}"


def flag_complaint(conduct: Conduct, before: Before, level: float | None, count: int) -> str | None:
    """level: the share that the operating point promises to flag at most; None: it promises none."""
    promised = 0.0 if level is None else FLAG_RISE * level
    usual = MOST_FLAGGED if before.flagged is None else FLAG_CHANGE * before.flagged
    if not is_more(conduct.flagged, conduct.weighed, max(promised, usual), ALPHA / count):
        return None
    told = ["no share is promised" if level is None else f"at most {level:.0%} is promised"]
    told += [] if before.flagged is None else [f"the version before flagged {before.flagged:.1%}"]
    return f"{conduct.flagged} of {conduct.weighed} images are flagged; {' and '.join(told)}"


def slow_complaint(conduct: Conduct, before: Before, count: int) -> str | None:
    """A busy machine slows every version down: the caller compares both at the same moment before it acts."""
    if before.slowest_s is None:
        return None
    slow = sum(time_s > SLOW * before.slowest_s for time_s in conduct.times_s)
    if not is_more(slow, len(conduct.times_s), SLOW_SHARE, ALPHA / count):
        return None
    return (
        f"{slow} of {len(conduct.times_s)} images took the engine longer than {1000 * SLOW * before.slowest_s:.1f} ms, "
        f"{SLOW:g} times the 99 % point of the version before"
    )


def is_more(hits: int, n: int, share: float, alpha: float) -> bool:
    """Whether `hits` of n prove, with an error of at most alpha, that the true share is above `share`."""
    if hits <= share * n or share >= 1:
        return False
    terms = (_log_chance(n, k, share) for k in range(hits, n + 1))
    return math.fsum(math.exp(term) for term in terms) < alpha


def _log_chance(n: int, k: int, share: float) -> float:
    """Of exactly k hits among n."""
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(share) + (n - k) * math.log1p(-share)


def _doubled(first: int, below: int) -> Iterable[int]:
    while first < below:
        yield first
        first *= 2
