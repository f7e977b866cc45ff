"""One observation per source and interval: a thousand frames of a still camera are one piece of evidence.

Traffic without a source is not thinned. There the design effect of `dependence` accounts for repeated images.
"""

import time
from collections.abc import Callable
from typing import Final

MAX_SOURCES: Final = 10_000  # remembered; beyond that the oldest is forgotten, and its next image counts


class Thinning:
    """clock: a monotonic clock, in seconds."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._counted_s: dict[str, float] = {}  # source -> time of its last counted image, in this order

    def __len__(self) -> int:
        return len(self._counted_s)

    def counts(self, source: str | None) -> bool:
        """Whether an image of this source counts that arrives now."""
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
