"""The replies that clients of one queue got: the other side of the account."""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Told:
    """A copy of one moment."""

    posted: frozenset[str]  # ids, whatever the reply was
    accepted: frozenset[str]  # the reply said so
    labelled: dict[str, str]  # the reply said so: id -> annotator
    rejected: frozenset[str]
    erasing: frozenset[str]  # asked for; the reply may have been lost


@dataclass
class Ledger:
    """Written by the threads of the load. `problems` is what must stay empty.

    A server that may forget its last seconds may hand out what was labelled in them: until the label is given to it
    again, another annotator can be faster.
    """

    server_may_forget: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _posted: set[str] = field(default_factory=set)
    _accepted: set[str] = field(default_factory=set)
    _labelled: dict[str, str] = field(default_factory=dict)
    _rejected: set[str] = field(default_factory=set)
    _erasing: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def copy(self) -> Told:
        with self._lock:
            return Told(
                frozenset(self._posted),
                frozenset(self._accepted),
                dict(self._labelled),
                frozenset(self._rejected),
                frozenset(self._erasing),
            )

    def note(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def post(self, sample_id: str) -> None:
        with self._lock:
            self._posted.add(sample_id)

    def accept(self, sample_id: str) -> None:
        with self._lock:
            self._accepted.add(sample_id)

    def label(self, sample_id: str, annotator: str) -> None:
        with self._lock:
            if self._labelled.setdefault(sample_id, annotator) == annotator:
                return
            if self.server_may_forget:
                self.counts["labelled again by another"] += 1
            else:
                self.problems.append(f"{sample_id} was labelled by {self._labelled[sample_id]} and by {annotator}")

    def reject(self, sample_id: str) -> None:
        with self._lock:
            self._rejected.add(sample_id)

    def erase(self, sample_id: str) -> None:
        with self._lock:
            self._erasing.add(sample_id)

    def lease(self, samples: Sequence[dict[str, Any]]) -> None:
        """One reply must be in order of value, in each lane, and hold no sample twice."""
        if is_disordered(samples):
            self.problem(f"a lease is not in order of value: {[(one['lane'], one['value']) for one in samples]}")
        if len({one["sample_id"] for one in samples}) < len(samples):
            self.problem("a lease holds a sample twice")


def is_disordered(samples: Iterable[dict[str, Any]]) -> bool:
    last: dict[str, float] = {}
    for one in samples:
        if one["value"] > last.get(one["lane"], float("inf")):
            return True
        last[one["lane"]] = one["value"]
    return False
