"""The slow part of dependence: traffic whose hours differ from each other, day after day.

A reference is drawn from all hours, so single hours of a daily rhythm leave it and return. `dependence` cannot see this
in blocks of some hundred observations. Here it is the design effect of hourly means, as in a one-way analysis of
variance. The smallest of the last three days with traffic counts: so the day on which drift began is not taken for a
rhythm. A rhythm is therefore known from the third day on.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics.bins import Bins
from service.drift.statistics.dependence import variance

HOURS = 24
DAYS = 3  # remembered
ENOUGH_DAYS = 2
ENOUGH_HOURS = 12  # with traffic, so that a day counts

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rhythm:
    """The rhythm of one signal; leading axes hold several."""

    counts: Floats  # [..., hours], of the day so far
    sums: Floats  # [..., hours], of normal scores, of the day so far
    days: Floats  # [..., DAYS], design effects of past days, the latest last; nan: unknown

    @classmethod
    def fresh(cls, shape: tuple[int, ...] = ()) -> Self:
        return cls(np.zeros((*shape, HOURS)), np.zeros((*shape, HOURS)), np.full((*shape, DAYS), np.nan))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """None stands for nan."""
        return cls(**{name: np.array(value, dtype=np.float64) for name, value in fields.items()})

    def to_json(self) -> dict[str, Any]:
        days = self.days.astype(object)
        days[np.isnan(self.days)] = None
        return {"counts": self.counts.tolist(), "sums": self.sums.tolist(), "days": days.tolist()}


def update(state: Rhythm, bins: Bins, counts: NDArray[np.number], hour: int) -> Rhythm:
    """The state after a flush of `counts` [..., b] in that hour of the day, 0..23."""
    at_hour = np.eye(HOURS)[hour]
    return Rhythm(
        state.counts + counts.sum(axis=-1)[..., None] * at_hour,
        state.sums + (counts @ bins.normal_scores)[..., None] * at_hour,
        state.days,
    )


def end_day(state: Rhythm, bins: Bins) -> Rhythm:
    """Ends the day at the restart. Its design effect joins those of the last days, if it had enough traffic.

    A day with too little traffic changes nothing: a site that closes on weekends still has its rhythm on Monday.
    """
    used = state.counts > 0
    hours = used.sum(axis=-1)
    total = np.maximum(state.counts.sum(axis=-1), 1)[..., None]
    means = state.sums / np.maximum(state.counts, 1)
    grand = state.sums.sum(axis=-1)[..., None] / total
    between = (state.counts * (means - grand) ** 2).sum(axis=-1) / np.maximum(hours - 1, 1)
    today = np.where(hours >= ENOUGH_HOURS, between / variance(bins), np.nan)
    empty = np.zeros_like(state.counts)
    shifted = np.concatenate([state.days[..., 1:], today[..., None]], axis=-1)
    return Rhythm(empty, empty, np.where(np.isnan(today)[..., None], state.days, shifted))


def design_effect(state: Rhythm) -> Floats:
    """D >= 1, [...]; 1 until two days are known."""
    known = ~np.isnan(state.days)
    smallest = np.where(known, state.days, np.inf).min(axis=-1)
    return np.where(known.sum(axis=-1) >= ENOUGH_DAYS, np.maximum(smallest, 1.0), 1.0)
