"""Errors of drift monitoring, by version: logged once until they change or end, and retried with growing pauses.

Versions do not affect each other: the error of one neither hides nor delays another.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Final, Literal

from service.drift.ledger import Place

log = logging.getLogger(__name__)

BACKOFF_MAX_S: Final = 60.0
Kind = Literal["flush", "labels"]


class Failures:
    """retry_s: the pause after the first failure; it doubles with each further one. clock: monotonic, in seconds."""

    def __init__(self, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry_s, self._clock = retry_s, clock
        self._messages: dict[tuple[Place, Kind], str] = {}
        self._failures: dict[Place, tuple[int, float]] = {}  # how many in a row, and when to try again

    def note(self, place: Place, kind: Kind, error: Exception) -> None:
        message = " ".join(str(error).split()) or type(error).__name__
        if self._messages.get((place, kind)) != message:
            log.warning("drift of %s %s (%s): %s; tried again", place.model, place.version, kind, message)
        self._messages[place, kind] = message
        if kind == "flush":
            failures = self._failures.get(place, (0, 0.0))[0] + 1
            wait_s = min(self._retry_s * 2 ** min(failures - 1, 10), BACKOFF_MAX_S)
            self._failures[place] = failures, self._clock() + wait_s

    def over(self, place: Place, kind: Kind) -> None:
        self._messages.pop((place, kind), None)
        if kind == "flush":
            self._failures.pop(place, None)

    def message(self, model: str, version: str) -> str | None:
        """Why the version cannot be flushed or evaluated now; None if nothing is wrong."""
        found = [
            text
            for (place, kind), text in self._messages.items()
            if (place.model, place.version, kind) == (model, version, "flush")
        ]
        return found[0] if found else None

    def is_due(self, place: Place) -> bool:
        return self._failures.get(place, (0, -float("inf")))[1] <= self._clock()

    def forget_others(self, places: Collection[Place]) -> None:
        self._messages = {of: text for of, text in self._messages.items() if of[0] in places}
        self._failures = {place: one for place, one in self._failures.items() if place in places}
