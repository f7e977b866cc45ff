"""When a change likeliest began, and what came since: read off a thinned history of the day's counts. Pure.

For each moment remembered, what came after it is weighed by two forecasts: that of a new distribution of which nothing
is known but that it lies around the reference, and that of the reference with what came before. The moment with the
largest ratio (a two-sample Bayes factor) is the start. Evidence does not rest on it: it says that there was a change.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics.bins import Bins
from service.drift.statistics.dirichlet import log_dirichlet_multinomial

MOMENTS: Final = 48  # remembered; the older, the further apart
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """k moments since the restart, in their order, and the sums that had come by then."""

    times: Floats  # [k], unix seconds
    sums: Floats  # [k, size of what is summed]

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
        """With one moment more. sums: [size], what had come before it since the restart."""
        times, all_sums = np.append(self.times, time_s), np.vstack([self.sums, sums])
        if len(times) > MOMENTS:
            age = time_s - times[1:-1]
            gaps = (times[2:] - times[:-2]) / np.maximum(age, 1e-9)
            gone = 1 + int(gaps[:-1].argmin())  # never the first, nor the latest two
            times, all_sums = np.delete(times, gone), np.delete(all_sums, gone, axis=0)
        return History(times, all_sums)


def likeliest_start(bins: Bins, before: Floats, total: Floats, design_effect: float) -> int:
    """Index of the moment at which a change of one signal likeliest began.

    before: [k, b], k at least 1, counts before each moment. total: [b], counts up to now.
    """
    known = before / design_effect
    after = total / design_effect - known
    anew = bins.shares * len(bins.shares)
    ratio = log_dirichlet_multinomial(after, np.broadcast_to(anew, after.shape)) - log_dirichlet_multinomial(
        after, bins.alpha + known
    )
    return int(ratio.argmax())
