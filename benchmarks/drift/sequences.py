"""Stationary sequences of standard normal values, mostly dependent, for many deployments and signals at once."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

LENGTHS = (5, 30)  # repeats in a clip: uniform, both ends included

Floats = NDArray[np.float64]


class Sequence(Protocol):
    def draw(self, n: int) -> Floats:
        """The next n values, [deployments, signals, n]."""


@dataclass
class Independent:
    rng: np.random.Generator
    shape: tuple[int, int]

    def draw(self, n: int) -> Floats:
        return self.rng.standard_normal((*self.shape, n))


@dataclass
class Autoregressive:
    """x_t = a x_(t-1) + noise: its design effect is (1 + a) / (1 - a), 19 for .9."""

    rng: np.random.Generator
    shape: tuple[int, int]
    a: float = 0.9
    _last: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.rng.standard_normal((*self.shape, 1)) * self.a

    def draw(self, n: int) -> Floats:
        noise = self.rng.standard_normal((*self.shape, n)) * np.sqrt(1 - self.a**2)
        values, self._last = lfilter([1.0], [1.0, -self.a], noise, axis=-1, zi=self._last)
        made: Floats = values
        return made


@dataclass
class Clips:
    """Each value is repeated 5 to 30 times. A number of sources take turns.

    every: only one in so many images of a source counts, as when X-Source thins the images.
    """

    rng: np.random.Generator
    shape: tuple[int, int]
    sources: int = 1
    every: int = 1
    _values: Floats = field(init=False)  # [deployments, signals, sources], the present value
    _left: NDArray[np.int64] = field(init=False)  # [deployments, sources], repeats that are left
    _turn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._values = self.rng.standard_normal((*self.shape, self.sources))
        self._left = self.rng.integers(1, LENGTHS[1] + 1, (self.shape[0], self.sources))

    def draw(self, n: int) -> Floats:
        made = np.empty((*self.shape, n))
        for i in range(n):
            source, self._turn = self._turn, (self._turn + 1) % self.sources
            ended = self._left[:, source] <= 0
            if ended.any():
                self._values[ended, :, source] = self.rng.standard_normal((int(ended.sum()), self.shape[1]))
                self._left[ended, source] += self.rng.integers(LENGTHS[0], LENGTHS[1] + 1, int(ended.sum()))
            made[..., i] = self._values[..., source]
            self._left[:, source] -= self.every
        return made
