"""A candidate: a version that is not one yet. It lives in `<store>/<model>/candidates/<id>/` with its files.

`candidate.json` has its state, and is replaced durably under a lock. Beside it lie model.onnx, manifest.json and
model_card.md once it is trained, and `learned.txt`, the ids of the samples that it and its parents learned from.
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from models.contract.bundle import BundleError
from models.contract.durable import replace_durably
from models.contract.fields import Name, Part
from models.contract.index import Version
from models.contract.lock import locked
from models.contract.manifest import ModelName
from models.contract.snapshot import Sha256

CandidateState = Literal["training", "gated", "shadow", "live", "rejected", "superseded", "rolled_back"]
RECORD = "candidate.json"
FOLDER = "candidates"
LOCK = ".candidates.lock"
# From each state, those that may follow. A state that is not listed is final.
CHANGES: dict[CandidateState, tuple[CandidateState, ...]] = {
    "training": ("gated", "rejected", "superseded"),
    "gated": ("live", "rejected", "superseded", "shadow"),
    "shadow": ("live", "rejected", "superseded"),
    "live": ("superseded", "rolled_back"),
    "rejected": (),
    "superseded": (),
    "rolled_back": (),
}


class NoCandidate(BundleError):  # noqa: N818 - the condition is the name
    """The model has no such candidate."""


class CandidateRecord(Part):
    """`candidate.json`."""

    id: Name
    model: ModelName
    state: CandidateState
    passed: bool | None = None  # what the gates said; None before they ran
    parent: Version
    parent_sha256: Sha256
    snapshot: Sha256 | None  # fingerprint of the snapshot it learned from
    made_at: Name  # ISO 8601 UTC
    changed_at: Name
    who: str  # of the last change of state
    reason: str
    version: Version | None = None  # its number once it was promoted


def new_candidate(model_folder: Path, *, parent: int, parent_sha256: str, snapshot: str | None, who: str) -> Path:
    """Makes the folder of a candidate in state training."""
    now = datetime.now(UTC)
    name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    folder = model_folder / FOLDER / name
    folder.mkdir(parents=True)
    at = now.isoformat(timespec="microseconds")
    record = CandidateRecord(
        id=name,
        model=model_folder.name,
        state="training",
        parent=parent,
        parent_sha256=parent_sha256,
        snapshot=snapshot,
        made_at=at,
        changed_at=at,
        who=who,
        reason="",
    )
    replace_durably(folder / RECORD, record.model_dump_json(indent=2).encode())
    return folder


def read_candidate(folder: Path) -> CandidateRecord:
    """Raises BundleError, also for the record of another candidate."""
    try:
        record = CandidateRecord.model_validate_json((folder / RECORD).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder} is no candidate: {RECORD} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise BundleError(f"{folder / RECORD} is damaged: {error.errors()[0]['msg']}") from error
    if record.id != folder.name:
        raise BundleError(f"{folder / RECORD} is damaged: it is the record of candidate {record.id}")
    return record


def list_candidates(model_folder: Path) -> list[CandidateRecord]:
    """Those that can be read, oldest first. `damaged_candidates` names the others."""
    records = [one for one in _all(model_folder) if isinstance(one, CandidateRecord)]
    return sorted(records, key=lambda record: record.made_at)


def damaged_candidates(model_folder: Path) -> list[str]:
    """One sentence for each candidate whose record cannot be read."""
    return [str(one) for one in _all(model_folder) if isinstance(one, BundleError)]


def find_candidate(model_folder: Path, name: str) -> Path:
    """The folder of a candidate, which may be damaged. Raises NoCandidate, also for a name that leads elsewhere."""
    names = [path.name for path in _folders(model_folder)]
    if name not in names:
        raise NoCandidate(f"{model_folder.name} has no candidate {name!r}: it has {', '.join(names) or 'none'}")
    return model_folder / FOLDER / name


def change_state(  # noqa: PLR0913 - what, who, why
    folder: Path,
    to: CandidateState,
    *,
    who: str,
    reason: str,
    passed: bool | None = None,
    version: int | None = None,
) -> CandidateRecord:
    """Moves a candidate to another state. Raises BundleError for a change that is not in `CHANGES`."""
    with locked(folder.parent / LOCK):
        record = read_candidate(folder)
        if to not in CHANGES[record.state]:
            following = " or ".join(CHANGES[record.state]) or "nothing else"
            raise BundleError(f"candidate {record.id} is {record.state} and cannot become {to}: only {following}")
        known = {"passed": passed, "version": version}
        return _replace(
            folder,
            record,
            {
                "state": to,
                "who": who,
                "reason": reason,
                "changed_at": datetime.now(UTC).isoformat(timespec="microseconds"),
                **{name: value for name, value in known.items() if value is not None},
            },
        )


def _replace(folder: Path, record: CandidateRecord, fields: dict[str, Any]) -> CandidateRecord:
    changed = CandidateRecord.model_validate({**record.model_dump(), **fields})
    replace_durably(folder / RECORD, changed.model_dump_json(indent=2).encode())
    return changed


def _all(model_folder: Path) -> list[CandidateRecord | BundleError]:
    found: list[CandidateRecord | BundleError] = []
    for path in _folders(model_folder):
        try:
            found.append(read_candidate(path))
        except BundleError as error:
            found.append(error)
    return found


def _folders(model_folder: Path) -> list[Path]:
    """Those that hold a file. A crash before the first record leaves a folder that holds none, and no candidate."""
    return sorted(path for path in (model_folder / FOLDER).glob("[!.]*/") if any(path.glob("[!.]*")))
