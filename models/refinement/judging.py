"""Takes a candidate of the cycle through the gates, and keeps their report in its folder."""

from pathlib import Path

from models.contract.bundle import BundleError, read_manifest
from models.contract.candidates import CandidateRecord, list_candidates
from models.contract.gate_report import FILE, GateResult, read_gate_report
from models.contract.snapshot import read_snapshot
from models.refinement.cycle import CANDIDATES, Judge, Judged, Refinement
from models.refinement.gates.gain import MEAN, TAIL
from models.refinement.gates.run import GateInputs, Material, run_gates, write_report
from models.training.config import Progress, silent

PINS = "pins"  # beside the versions: the user's own images that must stay right
SPENT = "spent.ndjson"


def gates(asked: Refinement, progress: Progress = silent) -> Judge:
    """The gates of a refinement."""

    def judge(live: Path, candidate: Path, placebo: Path | None, record: CandidateRecord) -> Judged:
        inputs = inputs_of(asked, live, candidate, placebo)
        if not (candidate / FILE).exists():  # it is written last: a report that is there was cut off after it
            material = Material(inputs)  # what the versions say about the images is shared by both steps
            write_report(run_gates(material, record.id, progress), material, candidate)
        report = read_gate_report(candidate)
        return Judged(report.passed, tuple(line(result) for result in report.results))

    return judge


def inputs_of(asked: Refinement, live: Path, candidate: Path, placebo: Path | None) -> GateInputs:
    """What the gates of a refinement look at. Raises SnapshotError."""
    pins = asked.model_folder / PINS
    snapshot, _ = read_snapshot(asked.snapshot)
    return GateInputs(
        live=live,
        candidate=candidate,
        task=asked.task,
        snapshot=asked.snapshot,
        placebo=placebo,
        anchor=anchor(asked.model_folder, int(live.name)),
        pins=pins if pins.is_dir() else None,
        spent=asked.model_folder / CANDIDATES / SPENT,
        skipped=-(-snapshot.rejected_audits // 2),  # half of the audit lane judges
    )


def line(result: GateResult) -> str:
    """One gate in one line."""
    return f"{result.gate}: {result.outcome.replace('_', ' ')}. {result.sentence}"


def anchor(model_folder: Path, live: int) -> Path | None:
    """The last version before `live` whose gain was proven, else its first ancestor; None if that is `live` itself.

    A version's gain is proven when labels judged it and both its mean and its tail passed.
    """
    records = {record.version: record for record in list_candidates(model_folder) if record.version is not None}
    version = live
    while (record := records.get(version)) is not None and not _proven(model_folder, record):
        parent = _parent(model_folder, version)
        if parent is None or parent == version or not (model_folder / str(parent)).is_dir():
            break
        version = parent
    return None if version == live else model_folder / str(version)


def _proven(model_folder: Path, record: CandidateRecord) -> bool:
    try:
        report = read_gate_report(model_folder / CANDIDATES / record.id)
    except BundleError:
        return False
    return {MEAN, TAIL} <= {result.gate for result in report.results if result.outcome == "passed"}


def _parent(model_folder: Path, version: int) -> int | None:
    parent = read_manifest(model_folder / str(version)).provenance.parent_version
    return int(parent) if parent is not None and parent.isdecimal() else None
