"""Detectors in wide use, on the same scores with the same references. They know no effect: each alarm is an alert.

One base: `update` with what came, [images], and `alarms`, at which images it rang.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

WINDOW = 500  # images
MAKE_ADWIN: Any = ADWIN  # its types are not given

Floats = NDArray[np.float64]


class Rival(ABC):
    def __init__(self) -> None:
        self.seen = 0
        self.alarms: list[int] = []  # how many images had come

    @abstractmethod
    def update(self, scores: Floats) -> None:
        """The next images' scores, in order of arrival."""


class Windowed(Rival):
    """Judges whole windows of 500."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = np.empty(0)

    def update(self, scores: Floats) -> None:
        waiting = np.concatenate([self._waiting, scores])
        while len(waiting) >= WINDOW:
            self.seen += WINDOW
            if self.judge(np.sort(waiting[:WINDOW])):
                self.alarms.append(self.seen)
            waiting = waiting[WINDOW:]
        self._waiting = waiting

    @abstractmethod
    def judge(self, window: Floats) -> bool:
        """Whether a sorted window is out of the ordinary."""


class KolmogorovSmirnov(Windowed):
    """Two-sample test at p < .05 (asymptotic: 1.358 sqrt(1/n + 1/m))."""

    def __init__(self, reference: Floats) -> None:
        super().__init__()
        self._reference = reference
        self._critical = 1.358 * np.sqrt(1 / WINDOW + 1 / len(reference))

    def judge(self, window: Floats) -> bool:
        everything = np.concatenate([window, self._reference])
        own = np.searchsorted(window, everything, side="right") / len(window)
        its = np.searchsorted(self._reference, everything, side="right") / len(self._reference)
        return bool(np.abs(own - its).max() > self._critical)


class ThreeSigma(Windowed):
    """The mean of a window against mean and three standard deviations of those of the first 20."""

    def __init__(self) -> None:
        super().__init__()
        self._means: list[float] = []

    def judge(self, window: Floats) -> bool:
        mean = float(window.mean())
        if len(self._means) < 20:  # noqa: PLR2004 - as said above
            self._means.append(mean)
            return False
        return bool(abs(mean - np.mean(self._means)) > 3 * np.std(self._means, ddof=1))


class Always(Windowed):
    def judge(self, window: Floats) -> bool:  # noqa: ARG002 - whatever comes
        return True


class River(Rival):
    """ADWIN (Bifet and Gavalda 2007) or Page-Hinkley (Page 1954) of river, at their defaults."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self._detector = detector

    def update(self, scores: Floats) -> None:
        for score in scores.tolist():
            self.seen += 1
            self._detector.update(score)
            if self._detector.drift_detected:
                self.alarms.append(self.seen)


NAMES = ("KS, p < .05", "3 sigma", "ADWIN", "Page-Hinkley", "always alarm")


def rivals(reference: Floats) -> dict[str, Rival]:
    """Of one deployment. reference: [m], sorted."""
    made = (KolmogorovSmirnov(reference), ThreeSigma(), River(MAKE_ADWIN()), River(PageHinkley()), Always())
    return dict(zip(NAMES, made, strict=True))
