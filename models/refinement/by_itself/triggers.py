"""When a refinement starts by itself: figures in, a reason out."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """What starts a refinement; any of the three does."""

    labels: int = 200  # new ones
    hours: float = 24.0  # since the last refinement, with at least `fewest` new labels
    fewest: int = 50  # new labels below which neither time nor drift starts one: nothing could be learned or judged


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known now."""

    new_labels: int  # since the last refinement
    hours: float  # since then; infinite: there was none
    is_in_drift: bool


def reason_to_refine(seen: Seen, wanted: Wanted) -> str | None:
    """In words; None: not yet."""
    if seen.new_labels >= wanted.labels:
        return f"{seen.new_labels} new labels"
    if seen.new_labels < wanted.fewest:
        return None
    if seen.is_in_drift:
        return f"drift, and {seen.new_labels} new labels"
    if seen.hours >= wanted.hours:
        hours = "no refinement yet" if math.isinf(seen.hours) else f"{seen.hours:.0f} hours since the last refinement"
        return f"{hours}, and {seen.new_labels} new labels"
    return None
