"""Promotes a candidate: its files become the next version of its model, and that version becomes live.

checked -> copied as a version (renamed into place) -> model.json replaced -> records of candidates follow. model.json
is the one authority. A crash after any step leaves a state that the same request, or the next one, continues: a copy
is found again by the id that it holds, and `settle` reads from model.json and the history what the records should say.
"""

from pathlib import Path
from typing import Final

from models.contract.bundle import BundleError, next_version, publish, read_manifest, read_onnx
from models.contract.candidates import (
    FOLDER,
    CandidateRecord,
    CandidateState,
    NoCandidate,
    change_state,
    find_candidate,
    list_candidates,
    read_candidate,
)
from models.contract.gate_report import FILE as GATES
from models.contract.gate_report import read_gate_report
from models.contract.history import NOBODY
from models.contract.index import ModelIndex, read_index
from models.contract.learned import FILE as LEARNED
from models.contract.live import LiveMoved, NotWritable, NoVersion, Swap, read_state, swap_live
from models.contract.lock import locked

LOCK: Final = ".promotion.lock"
OVERRIDDEN: Final = "gates overridden: "
ORIGIN: Final = "candidate.txt"  # in a version: the id of the candidate that it was
PROMOTABLE: Final = ("gated", "shadow")
COPIED: Final = (LEARNED, GATES)  # beside the model, where they are there


class GatesNotPassed(BundleError):  # noqa: N818 - the condition is the name
    """The candidate's gates failed or have not run. Nothing was changed."""


def promote_candidate(  # noqa: PLR0913 - all but three are keyword-only
    model_folder: Path, name: str, expected_live: int, *, who: str = NOBODY, reason: str, override: bool = False
) -> Swap:
    """Makes a candidate the next version of its model, and live. Repeating it makes no second version.

    override: promote it although its gates failed or have not run; the history says so. Raises NoVersion for an unknown
    candidate, GatesNotPassed, LiveMoved when another version is live than expected or than it was judged against,
    NotWritable, and BundleError when its files are damaged or it was promoted before.
    """
    try:
        folder = find_candidate(model_folder, name)
    except NoCandidate as error:
        raise NoVersion(str(error)) from error
    try:
        with locked(model_folder / FOLDER / LOCK):
            _settle(model_folder)
            record, index = read_candidate(folder), read_index(model_folder)
            if record.state == "live" and record.version == index.live:
                return Swap(index, index)
            gates = _check(model_folder, folder, record, index, expected_live, who=who, override=override)
            number = _copied(model_folder, folder)
            why = f"{OVERRIDDEN}{gates}; {reason}" if gates else reason
            swap = swap_live(model_folder, number, expected_live, who=who, reason=why, candidate=record.id)
            _settle(model_folder)
            return swap
    except OSError as error:
        raise NotWritable(f"{model_folder / FOLDER} cannot be written ({error.strerror or error})") from error


def settle(model_folder: Path) -> None:
    """Lets the records of candidates say what model.json and the history say. Raises BundleError and NotWritable."""
    if not (model_folder / FOLDER).is_dir():
        return
    try:
        with locked(model_folder / FOLDER / LOCK):
            _settle(model_folder)
    except OSError as error:
        raise NotWritable(f"{model_folder / FOLDER} cannot be written ({error.strerror or error})") from error


def _settle(model_folder: Path) -> None:
    state = read_state(model_folder)
    versions: dict[str, int] | None = None
    for record in list_candidates(model_folder):
        folder = model_folder / FOLDER / record.id
        if record.state in PROMOTABLE:
            versions = _versions(model_folder) if versions is None else versions
            number = versions.get(record.id)
            entered = [change for change in state.changes if change.event == "promoted" and change.version == number]
            if number is not None and entered:
                record = change_state(  # noqa: PLW2901 - the state that it should have had
                    folder, "live", who=entered[-1].who, reason=entered[-1].reason, version=number
                )
        if record.state == "live" and record.version != state.index.live:
            left = next((change for change in reversed(state.changes) if change.before == record.version), None)
            to: CandidateState = "rolled_back" if left is not None and left.event == "rolled_back" else "superseded"
            who, why = (left.who, left.reason) if left else (NOBODY, f"version {state.index.live} is live")
            change_state(folder, to, who=who, reason=why)


def _check(  # noqa: PLR0913 - all that a promotion depends on
    model_folder: Path,
    folder: Path,
    record: CandidateRecord,
    index: ModelIndex,
    expected: int,
    *,
    who: str,
    override: bool,
) -> str:
    """What the gates said against it; empty when they passed."""
    if index.live != expected:
        raise LiveMoved(f"version {index.live} of {model_folder.name} is live, not {expected}: look at the history")
    against = _against(folder, record)
    if record.state not in PROMOTABLE and not (record.state == "training" and override):
        hint = "wait for its gates" if record.state == "training" else "refine again"
        kind = GatesNotPassed if record.state == "training" else BundleError
        raise kind(f"candidate {record.id} is {record.state} and cannot be promoted: {hint}")
    if against and not override:
        raise GatesNotPassed(f"candidate {record.id} did not pass: {against}; override it with a reason, if you must")
    if (index.live, read_manifest(model_folder / str(index.live)).onnx_sha256) != (record.parent, record.parent_sha256):
        raise LiveMoved(
            f"candidate {record.id} was judged against version {record.parent}, and version {index.live} of "
            f"{model_folder.name} is live: refine again"
        )
    if record.state == "training":
        read_onnx(folder, read_manifest(folder))  # whole, before the state changes
        change_state(folder, "gated", who=who, reason="the gates were overridden before they ran")
    return against


def _against(folder: Path, record: CandidateRecord) -> str:
    if record.passed:
        return ""
    try:
        report = read_gate_report(folder)
    except BundleError:
        return "its gates have not run" if record.passed is None else "its gates failed"
    bad = [f"{one.gate} ({one.outcome.replace('_', ' ')})" for one in report.results if one.outcome not in _GOOD]
    return ", ".join(bad) or "its gates have no pass on record"


_GOOD: Final = ("passed", "not_asked")


def _copied(model_folder: Path, folder: Path) -> int:
    """The number of the version with the candidate's files, which is published unless an earlier try did it."""
    manifest = read_manifest(folder)
    if manifest.model != model_folder.name:
        raise BundleError(f"{folder} is damaged: its manifest is one of model {manifest.model}")
    onnx = read_onnx(folder, manifest)
    if (number := _versions(model_folder).get(folder.name)) is not None:
        return number
    number = next_version(model_folder)
    there = [name for name in COPIED if (folder / name).exists()]
    files = {
        "model.onnx": onnx,
        ORIGIN: f"{folder.name}\n".encode(),
        **{name: _read(folder / name) for name in ("model_card.md", *there)},
    }
    publish(model_folder.parent, manifest.model_copy(update={"version": str(number)}), files)
    return number


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path.parent} is damaged: {path.name} cannot be read ({error.strerror})") from error


def _versions(model_folder: Path) -> dict[str, int]:
    """Numbers of the versions that were candidates, by the ids of these."""
    found = dict[str, int]()
    for path in model_folder.glob(f"*/{ORIGIN}"):
        if path.parent.name.isdecimal():
            found[_read(path).decode(errors="replace").strip()] = int(path.parent.name)
    return found
