"""Parked rows: journal entries that fail while the others get through. Each is retried after a pause that doubles."""

import asyncio
from collections.abc import Mapping

from service.errors import Unavailable

FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 300.0


class Parking:
    """Belongs to one event loop, by whose clock it measures time."""

    def __init__(self) -> None:
        self._until_s: dict[int, float] = {}  # of rows that are parked now
        self._pauses_s: dict[int, float] = {}  # the last pause of rows that were parked and are not done yet

    def __contains__(self, row: int) -> bool:
        return row in self._until_s

    @property
    def next_due_s(self) -> float | None:
        """When the next row is due; None if none is parked."""
        return min(self._until_s.values(), default=None)

    @property
    def is_over(self) -> bool:
        """Whether every row that was ever parked is done."""
        return not self._pauses_s

    def park(self, row: int) -> None:
        pause_s = min(2 * self._pauses_s.get(row, FIRST_PAUSE_S / 2), MAX_PAUSE_S)
        self._pauses_s[row] = pause_s
        self._until_s[row] = asyncio.get_running_loop().time() + pause_s

    def release_due(self) -> bool:
        """Releases the rows whose pause is over. Whether there were any."""
        now_s = asyncio.get_running_loop().time()
        due = [row for row, until_s in self._until_s.items() if until_s <= now_s]
        for row in due:
            del self._until_s[row]
        return bool(due)

    def done(self, row: int) -> None:
        self._pauses_s.pop(row, None)


def own_failures(outcomes: Mapping[int, BaseException | None]) -> dict[int, BaseException]:
    """The rows that failed for a reason of their own, with the error of each.

    If several rows were tried and all fail, or a single one fails because its server is away, the fault is not theirs:
    then the first error is raised.
    """
    failed = {row: error for row, error in outcomes.items() if error}
    first = next(iter(failed.values()), None)
    if first and len(failed) == len(outcomes) and (len(outcomes) > 1 or isinstance(first, Unavailable)):
        raise first
    return failed
