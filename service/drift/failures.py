"""Failures of drift monitoring, by version: retried with growing pauses. `service.background` counts and logs them.

Versions do not affect each other: the failure of one neither hides nor delays another.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Final, Literal

from service.background import Failures
from service.drift.ledger import LedgerKey

BACKOFF_MAX_S: Final = 60.0
Kind = Literal["flush", "labels"]


class VersionFailures:
    """retry_s: the pause after the first failure; it doubles with each further one. clock: monotonic, in seconds."""

    def __init__(self, log: logging.Logger, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.of: dict[Kind, Failures] = {"flush": Failures(log), "labels": Failures(log)}
        self._retry_s, self._clock = retry_s, clock
        self._noted: set[LedgerKey] = set()
        self._pauses: dict[LedgerKey, tuple[int, float]] = {}  # failures in a row, and when to try again

    def note(self, place: LedgerKey, kind: Kind, error: Exception) -> None:
        self.of[kind].note(_name(place.model, place.version, kind), error)
        self._noted.add(place)
        if kind == "flush":
            failures = self._pauses.get(place, (0, 0.0))[0] + 1
            pause_s = min(self._retry_s * 2 ** min(failures - 1, 10), BACKOFF_MAX_S)
            self._pauses[place] = failures, self._clock() + pause_s

    def over(self, place: LedgerKey, kind: Kind) -> None:
        self.of[kind].over(_name(place.model, place.version, kind))
        if kind == "flush":
            self._pauses.pop(place, None)

    def message(self, model: str, version: str) -> str | None:
        """Why the version cannot be flushed or evaluated now; None if nothing is wrong."""
        return self.of["flush"].reason(_name(model, version, "flush"))

    def is_due(self, place: LedgerKey) -> bool:
        return self._pauses.get(place, (0, -float("inf")))[1] <= self._clock()

    def forget_others(self, places: Collection[LedgerKey]) -> None:
        for place in self._noted.difference(places):
            for kind in self.of:
                self.over(place, kind)
        self._noted.intersection_update(places)


def _name(model: str, version: str, kind: Kind) -> str:
    return f"drift of {model} {version} ({kind})"
