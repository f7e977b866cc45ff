"""What goes wrong with the drift of each version: told once until it changes or is over, and tried ever more rarely.

A version's trouble is its own: it neither hides another's nor holds it up.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Final, Literal

from service.drift.ledger import Place

log = logging.getLogger(__name__)

BACKOFF_MAX_S: Final = 60.0
Kind = Literal["flush", "labels"]


class Troubles:
    """retry_s: after the first failure; it doubles with each further one. clock: seconds that never go back."""

    def __init__(self, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry_s, self._clock = retry_s, clock
        self._words: dict[tuple[Place, Kind], str] = {}
        self._failures: dict[Place, tuple[int, float]] = {}  # in a row, and when to try again

    def note(self, place: Place, kind: Kind, error: Exception) -> None:
        words = " ".join(str(error).split()) or type(error).__name__
        if self._words.get((place, kind)) != words:
            log.warning("drift of %s %s (%s): %s; tried again", place.model, place.version, kind, words)
        self._words[place, kind] = words
        if kind == "flush":
            failures = self._failures.get(place, (0, 0.0))[0] + 1
            wait_s = min(self._retry_s * 2 ** min(failures - 1, 10), BACKOFF_MAX_S)
            self._failures[place] = failures, self._clock() + wait_s

    def over(self, place: Place, kind: Kind) -> None:
        self._words.pop((place, kind), None)
        if kind == "flush":
            self._failures.pop(place, None)

    def words(self, model: str, version: str) -> str | None:
        """Why it cannot be flushed or judged now."""
        found = [
            text
            for (place, kind), text in self._words.items()
            if (place.model, place.version, kind) == (model, version, "flush")
        ]
        return found[0] if found else None

    def is_due(self, place: Place) -> bool:
        return self._failures.get(place, (0, -float("inf")))[1] <= self._clock()

    def forget_others(self, places: Collection[Place]) -> None:
        self._words = {of: text for of, text in self._words.items() if of[0] in places}
        self._failures = {place: one for place, one in self._failures.items() if place in places}
