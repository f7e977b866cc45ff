"""How one version behaves: what it answered, flagged and failed at, and how long its engine took."""

from collections import deque
from typing import Final

TIMES: Final = 2048  # that are kept, the newest ones


class Conduct:
    """Counts since the version was loaded, or since `restart`. One thread, that of the event loop, uses it."""

    __slots__ = ("answered", "faults", "flagged", "times_s", "weighed")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.answered = 0  # images
        self.faults = 0  # images that ended in an error of the service
        self.weighed = 0  # answered images whose request named no operating point of its own
        self.flagged = 0  # of these
        self.times_s = deque[float](maxlen=TIMES)  # of the engine's run in which an image was

    @property
    def images(self) -> int:
        return self.answered + self.faults

    def answer(self, run_s: float) -> None:
        """An image was answered after a run of the engine of that length."""
        self.answered += 1
        self.times_s.append(run_s)

    def weigh(self, *, lossy: bool) -> None:
        """The same image has a verdict at the version's usual operating point."""
        self.weighed += 1
        self.flagged += lossy

    def fault(self) -> None:
        """An image ended in an error of the service, and not of its sender."""
        self.faults += 1
