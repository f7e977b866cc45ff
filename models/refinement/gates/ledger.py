"""`spent.ndjson`: which labels have judged which candidate. One JSON line for each attempt, appended before its results
are shown, so that no one gets a look for free by killing the command.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from pydantic import Field, ValidationError

from models.contract.bundle import BundleError
from models.contract.durable import sync_folder
from models.contract.fields import Name, Part
from models.contract.lock import locked
from models.refinement.gates.attempts import MOST_ATTEMPTS, choose_attempt, looks_of


class Attempt(Part):
    """One line."""

    candidate: Name
    at: Name  # ISO 8601, UTC
    attempt: int = Field(ge=1)
    offered: list[Name]  # ids of all labels that could have judged, in order
    labels: list[Name]  # ids of those that judged, in order


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an attempt may use."""

    attempt: int
    labels: frozenset[str]

    @property
    def used_up(self) -> bool:
        """All labels have judged as often as they may."""
        return self.attempt > MOST_ATTEMPTS


def spend(ledger: Path, candidate: str, offered: Collection[str]) -> Allowance:
    """Takes the next attempt on these labels for this candidate, and records it durably before it returns.

    The same candidate with the same labels on offer gets the attempt that it has had. Without labels, and when they are
    used up, nothing is recorded. Raises BundleError for a ledger that cannot be read or written.
    """
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with locked(ledger.with_name(f".{ledger.name}.lock")):
            return _spend(ledger, candidate, sorted(offered))
    except OSError as error:
        raise BundleError(
            f"{ledger} cannot be changed ({error.strerror or error}), and no label judges without a line in it"
        ) from error


def _spend(ledger: Path, candidate: str, offered: list[str]) -> Allowance:
    earlier = read_attempts(ledger)
    for one in earlier:
        if one.candidate == candidate and one.offered == offered:
            return Allowance(one.attempt, frozenset(one.labels))
    number, labels = choose_attempt(looks_of(offered, [one.labels for one in earlier]))
    if labels:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = Attempt(candidate=candidate, at=at, attempt=number, offered=offered, labels=sorted(labels))
        _append(ledger, orjson.dumps(line.model_dump()) + b"\n")
    return Allowance(number, frozenset(labels))


def read_attempts(ledger: Path) -> list[Attempt]:
    """All attempts, oldest first. A last line that a crash cut off was not followed by any result, and is left out.

    Raises BundleError for a damaged line, and OSError.
    """
    try:
        *lines, _ = ledger.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    try:
        return [Attempt.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise BundleError(
            f"{ledger} is damaged: restore it from a backup, because without it labels judge too often"
        ) from error


def _append(ledger: Path, line: bytes) -> None:
    """Under the lock. Removes a last line that a crash cut off."""
    with ledger.open("a+b") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(ledger.parent)
