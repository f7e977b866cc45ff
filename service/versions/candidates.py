"""Candidates of a model, with what the gates said, as the bundle store has them."""

from dataclasses import dataclass
from pathlib import Path

from models.contract.bundle import BundleError
from models.contract.candidates import FOLDER, CandidateRecord, damaged_candidates, list_candidates
from models.contract.gate_report import GateReport, read_gate_report


@dataclass(frozen=True, slots=True)
class Candidates:
    """records: with the gate report of each, None where there is none."""

    records: list[tuple[CandidateRecord, GateReport | None]]
    damaged: list[str]


def read_candidates(model_folder: Path) -> Candidates:
    """Oldest first. Damaged candidates and reports are named."""
    damaged = damaged_candidates(model_folder)
    records = list[tuple[CandidateRecord, GateReport | None]]()
    for record in list_candidates(model_folder):
        folder, report = model_folder / FOLDER / record.id, None
        if record.passed is not None or (folder / "gates.json").exists():
            try:
                report = read_gate_report(folder)
            except BundleError as error:
                damaged.append(str(error))
        records.append((record, report))
    return Candidates(records, damaged)
