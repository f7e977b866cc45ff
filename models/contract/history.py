"""`history.ndjson` beside model.json: one JSON line for each change of the live version, oldest first. Append-only.

announced -> model.json replaced -> recorded. An announced change waits in a file of its own (`PENDING`), so that a
crash at any point loses neither who nor why: if model.json names its version, the change happened, and its line is
completed; otherwise it did not happen. Only `models.contract.live` writes here, under its lock.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from models.contract.bundle import BundleError, read_manifest
from models.contract.durable import replace_durably, sync_folder
from models.contract.index import ModelIndex, Version

HISTORY = "history.ndjson"
PENDING = ".history.pending"

NOBODY = "unknown"

Event = Literal["live", "promoted", "rolled_back"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the live version changes."""

    event: Event
    reason: str
    who: str = NOBODY
    candidate: str | None = None


class Change(BaseModel):
    """One line of the history. `live`: training published the version, or it was found live without a line here."""

    model_config = ConfigDict(frozen=True, strict=True)

    at: str  # UTC, ISO 8601
    event: Event
    version: Version  # live from now on
    before: Version | None  # live until now; None: none was
    who: str
    reason: str
    onnx_sha256: str | None  # of `version`; None: its manifest could not be read
    candidate: str | None = None  # that was promoted as `version`; lines without one leave it out

    def to_line(self) -> bytes:
        left_out = {"candidate"} if self.candidate is None else None
        return self.model_dump_json(exclude=left_out).encode() + b"\n"


def change_now(model_folder: Path, cause: Cause, version: int, before: int | None) -> Change:
    """A change of this moment. The hash is that of the version's manifest."""
    try:
        sha256 = read_manifest(model_folder / str(version)).onnx_sha256
    except BundleError:
        sha256 = None
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    return Change(
        at=at,
        event=cause.event,
        version=version,
        before=before,
        who=cause.who,
        reason=cause.reason,
        onnx_sha256=sha256,
        candidate=cause.candidate,
    )


def read_history(model_folder: Path) -> list[Change]:
    """All changes, oldest first; none where there is no history yet. A last line that a crash cut off is left out.

    Raises BundleError for a damaged line, and when the file cannot be read.
    """
    changes = []
    for number, line in enumerate(_lines(model_folder), start=1):
        try:
            changes.append(Change.model_validate_json(line))
        except ValidationError as error:
            raise BundleError(f"{model_folder / HISTORY} is damaged in line {number}: repair or remove it") from error
    return changes


def last_change(model_folder: Path) -> Change | None:
    """The newest change; None without a history, and when its last whole line is damaged."""
    lines = _lines(model_folder)
    try:
        return Change.model_validate_json(lines[-1]) if lines else None
    except ValidationError:
        return None


def pending_change(model_folder: Path, index: ModelIndex | None) -> Change | None:
    """A change that model.json shows and the history may lack, because its writer has not finished."""
    try:
        change = Change.model_validate_json((model_folder / PENDING).read_bytes())
    except (OSError, ValidationError):
        return None
    return change if index and index.live == change.version else None


def announce(model_folder: Path, change: Change) -> None:
    """The first step of a change, before model.json is replaced."""
    replace_durably(model_folder / PENDING, change.to_line())


def record(model_folder: Path, change: Change) -> None:
    """The last step: appends the line, unless it is there already, and forgets the announcement.

    A last line that a crash cut off is removed first.
    """
    with (model_folder / HISTORY).open("a+b") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
        if not content[:whole].endswith(change.to_line()):
            file.write(change.to_line())
            file.flush()
        os.fsync(file.fileno())
    forget(model_folder)


def forget(model_folder: Path) -> None:
    """Removes the announcement of a change that was recorded, or that never happened."""
    (model_folder / PENDING).unlink(missing_ok=True)
    sync_folder(model_folder)


def _lines(model_folder: Path) -> list[bytes]:
    path = model_folder / HISTORY
    try:
        *lines, _ = path.read_bytes().split(b"\n")  # the rest after the last line break is empty or was cut off
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})") from error
    return lines
