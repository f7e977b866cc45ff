"""Which labels train, which are watched, which calibrate and which judge: decided once for each sample, for good.

A keyed hash of the sample's group decides, so every machine finds the same split again. The flagged lanes train (90 %)
or are watched (10 %). The audit lane is a fair draw from all traffic: half of it calibrates, half of it judges, and
none of it trains. A group is a camera within an hour, because its frames resemble each other. Where no source is known,
it is a cluster of images that are nearly the same. The hash differs between the flagged lanes and the audit lane, so
one camera can train in one lane and judge in the other. Nearly the same image never does both: the later of two such
images stays unused.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.contract.near_duplicates import alike
from models.contract.snapshot import Lane, Split

WATCHED_SHARE = 0.1  # of the groups of the flagged lanes
JUDGING_SHARE = 0.5  # of the groups of the audit lane
HOUR_S = 3600
SCALE = 127  # prints are kept as whole numbers: a million labels take 0.6 GB


def split_of(model: str, lane: Lane, group: str) -> Split:
    """The split of all samples of this lane in this group."""
    share = _uniform(model, "audit" if lane == "audit" else "flagged", group)
    if lane == "audit":
        return "judge" if share < JUDGING_SHARE else "calibrate"
    return "watch" if share < WATCHED_SHARE else "train"


def may_meet(one: Split, other: Split) -> bool:
    """Whether nearly the same image may be in both splits."""
    return one == other or "train" not in {one, other}


@dataclass(frozen=True, slots=True)
class Place:
    group: str
    split: Split


class Subject(NamedTuple):
    """The facts, beside the image, that decide the split of a sample."""

    sample_id: str
    lane: Lane
    source: str | None
    flagged_at: float  # unix seconds


class Splitter:
    """Gives the samples of one model their groups and splits, in the order in which their labels came."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._neighbourhoods: defaultdict[str, _Neighbourhood] = defaultdict(_Neighbourhood)

    def places(self, subjects: Sequence[Subject], prints: NDArray[np.float32]) -> list[Place]:
        """prints: [n, d] of `near_duplicates.prints`. However the stream is cut into pages, the places are the same."""
        found: dict[int, Place] = {}
        for where, rows in _by_neighbourhood(subjects).items():
            neighbourhood = self._neighbourhoods[where]
            for row, similar in zip(rows, neighbourhood.take(prints[rows]), strict=True):
                found[row] = self._place(subjects[row], where, neighbourhood.places, similar)
        return [found[row] for row in range(len(subjects))]

    def remember(self, subjects: Sequence[Subject], places: Sequence[Place], prints: NDArray[np.float32]) -> None:
        """These samples got their places before, and keep them."""
        for where, rows in _by_neighbourhood(subjects).items():
            self._neighbourhoods[where].take(prints[rows])
            self._neighbourhoods[where].places += [places[row] for row in rows]

    def _place(self, subject: Subject, where: str, known: list[Place], similar: NDArray[np.intp]) -> Place:
        group = where or (known[similar[0]].group if similar.size else subject.sample_id)
        split = split_of(self._model, subject.lane, group)
        if not all(may_meet(split, known[i].split) for i in similar):
            split = "unused"
        known.append(Place(group, split))
        return known[-1]


class _Neighbourhood:
    """Samples that are compared with each other."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._prints = np.zeros((0, 0), np.int8)

    def take(self, prints: NDArray[np.float32]) -> list[NDArray[np.intp]]:
        """Adds these samples. For each: which of the samples before it look nearly the same, the earliest first."""
        before = len(self._prints)
        whole = np.rint(prints * SCALE).astype(np.int8)
        self._prints = np.concatenate((self._prints, whole)) if before else whole
        matrix = alike(self._prints.astype(np.float32) / np.float32(SCALE), prints)
        return [np.flatnonzero(column[: before + row]) for row, column in enumerate(matrix.T)]


def _by_neighbourhood(subjects: Sequence[Subject]) -> dict[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, subject in enumerate(subjects):
        rows[_neighbourhood(subject.source, subject.flagged_at)].append(row)
    return dict(rows)


def _neighbourhood(source: str | None, flagged_at: float) -> str:
    """A camera within an hour; empty for all samples without a source."""
    return "" if source is None else f"{source} {int(flagged_at // HOUR_S)}"


def _uniform(model: str, kind: str, group: str) -> float:
    """A number in [0, 1) that looks drawn at random, and is the same for the same arguments."""
    text = f"{kind}\0{group}".encode()
    return int.from_bytes(hashlib.blake2b(text, key=model.encode(), digest_size=7).digest()) / 2**56
