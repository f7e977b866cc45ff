"""A candidate: a version that is not one yet. It lives in `<store>/<model>/candidates/<id>/` with its files.

`candidate.json` has its state, and is replaced durably under a lock. Beside it lie model.onnx, manifest.json and
model_card.md once it is trained, and `learned.txt`, the ids of the samples that it and its parents learned from.
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

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
LOCK = ".candidates.lock"


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
    folder = model_folder / "candidates" / name
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
    """Raises BundleError."""
    try:
        return CandidateRecord.model_validate_json((folder / RECORD).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder} is no candidate: {RECORD} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise BundleError(f"{folder / RECORD} is damaged: {error.errors()[0]['msg']}") from error


def list_candidates(model_folder: Path) -> list[CandidateRecord]:
    """Oldest first."""
    folders = sorted((model_folder / "candidates").glob(f"*/{RECORD}"))
    return sorted((read_candidate(path.parent) for path in folders), key=lambda record: record.made_at)


def change_state(  # noqa: PLR0913 - what, who, why
    folder: Path,
    to: CandidateState,
    *,
    who: str,
    reason: str,
    passed: bool | None = None,
    version: int | None = None,
) -> CandidateRecord:
    """Moves a candidate to another state. Raises BundleError."""
    with locked(folder.parent / LOCK):
        record = read_candidate(folder)
        update = {"state": to, "who": who, "reason": reason}
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        changed = record.model_copy(
            update={
                **update,
                "changed_at": at,
                "passed": record.passed if passed is None else passed,
                "version": record.version if version is None else version,
            }
        )
        replace_durably(folder / RECORD, changed.model_dump_json(indent=2).encode())
        return changed
