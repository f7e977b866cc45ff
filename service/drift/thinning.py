"""One observation per source and interval: the frames of a still camera are one piece of evidence, not a thousand.

Traffic that names no source is not thinned; the design effect of `dependence` takes care of what repeats there.
"""

import time
from collections.abc import Callable
from typing import Final

MAX_SOURCES: Final = 10_000  # remembered; with more within one interval the longest known is forgotten, and counts anew


class Thinning:
    """clock: seconds that never go back."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._counted_s: dict[str, float] = {}  # by source, when it last counted, in that order

    def __len__(self) -> int:
        return len(self._counted_s)

    def counts(self, source: str | None) -> bool:
        """Whether an image from it counts, now that it came."""
        if source is None:
            return True
        now_s, counted_s = self._clock(), self._counted_s
        last_s = counted_s.get(source)
        if last_s is not None:
            if now_s - last_s < self._interval_s:
                return False
            del counted_s[source]
        elif len(counted_s) >= MAX_SOURCES:
            del counted_s[next(iter(counted_s))]
        counted_s[source] = now_s
        return True
