"""The likeliest start of a change, found in a thinned history of the day's counts. Pure.

For each moment of the history, two distributions forecast the later counts: a new distribution with a wide prior around
the reference, and the reference together with the earlier counts. The moment with the largest ratio (a two-sample Bayes
factor) is the start. Evidence does not depend on it: evidence only says that there was a change.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics.bins import Bins
from service.drift.statistics.dirichlet import log_dirichlet_multinomial

MOMENTS: Final = 48  # older ones are further apart
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """k moments since the restart, in order, and the sums up to each of them."""

    times: Floats  # [k], unix seconds
    sums: Floats  # [k, size of the sums]

    @classmethod
    def fresh(cls, size: int) -> Self:
        return cls(np.empty(0), np.empty((0, size)))

    @classmethod
    def from_json(cls, fields: dict[str, Any], size: int) -> Self:
        """Raises ValueError for sums of another size."""
        return cls(np.array(fields["times"], np.float64), np.array(fields["sums"], np.float64).reshape(-1, size))

    def to_json(self) -> dict[str, Any]:
        return {"times": self.times.tolist(), "sums": self.sums.tolist()}

    def add(self, time_s: float, sums: Floats) -> "History":
        """The history with one more moment. sums: [size], from the restart to this moment."""
        times, all_sums = np.append(self.times, time_s), np.vstack([self.sums, sums])
        if len(times) > MOMENTS:
            age = time_s - times[1:-1]
            gaps = (times[2:] - times[:-2]) / np.maximum(age, 1e-9)
            gone = 1 + int(gaps[:-1].argmin())  # not the first, and not the last two
            times, all_sums = np.delete(times, gone), np.delete(all_sums, gone, axis=0)
        return History(times, all_sums)


def likeliest_start(bins: Bins, before: Floats, total: Floats, design_effect: float) -> int:
    """Index of the likeliest moment at which one signal began to change.

    before: [k, b], counts before each of at least one moment. total: [b], counts up to now.
    """
    known = before / design_effect
    after = total / design_effect - known
    prior = bins.shares * len(bins.shares)
    ratio = log_dirichlet_multinomial(after, np.broadcast_to(prior, after.shape)) - log_dirichlet_multinomial(
        after, bins.alpha + known
    )
    return int(ratio.argmax())
