"""Asks all gates about a candidate, the free ones first: labels judge only a candidate that passed those."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from models.contract.bundle import read_manifest
from models.contract.durable import replace_durably
from models.contract.gate_report import FILE, GateReport, GateResult
from models.refinement.gates.annotators import labels
from models.refinement.gates.answers import not_asked
from models.refinement.gates.attempts import MOST_ATTEMPTS, alpha_of
from models.refinement.gates.failure_head import failure_head, flag_share
from models.refinement.gates.forgetting import anchor, forgetting
from models.refinement.gates.gain import JUDGING, MEAN, PLACEBO, TAIL, UNLABELLED, Judging, gain, placebo, unlabelled
from models.refinement.gates.integrity import integrity
from models.refinement.gates.ledger import Allowance, spend
from models.refinement.gates.material import GateInputs, Material
from models.refinement.gates.page import page
from models.refinement.gates.paired import FEWEST_GROUPS
from models.refinement.gates.pictures import pictures
from models.refinement.gates.pins import pins
from models.refinement.gates.slices import GATE as SLICES
from models.refinement.gates.slices import slices
from models.training.config import Progress, silent

__all__ = ["GateInputs", "Material", "run_gates", "write_report"]

ASKING = "gates"  # as progress calls them
JUDGED = (MEAN, TAIL, UNLABELLED, PLACEBO, SLICES)

# They look at no loss on a judging label.
FREE: tuple[Callable[[Material], Sequence[GateResult]], ...] = (
    lambda material: [pins(material)],
    lambda material: [labels(material)],
    lambda material: [forgetting(material), anchor(material)],
    failure_head,
    lambda material: [flag_share(material)],
)


def run_gates(material: Material, candidate_id: str, progress: Progress = silent) -> GateReport:
    """All answers about the candidate. The attempt is in the ledger before any label has judged.

    Raises SnapshotError and BundleError when the snapshot, the live version or the ledger cannot be used.
    """
    inputs = material.inputs
    parent = int(read_manifest(inputs.live).version)
    steps = len(FREE) + 2
    results = list(integrity(inputs))
    progress(ASKING, 1, steps)
    if results[0].outcome == "passed":
        for step, gate in enumerate(FREE, start=2):
            results += gate(material)
            progress(ASKING, step, steps)
    attempt, judged = _judge(material, candidate_id, _first_failure(results))
    progress(ASKING, steps, steps)
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    return GateReport(
        candidate=candidate_id, parent=parent, made_at=made_at, attempt=attempt, results=(*results, *judged)
    )


def write_report(report: GateReport, material: Material, folder: Path) -> None:
    """Writes pictures/, gates.html and, last, gates.json into the candidate's folder.

    A candidate that cannot run, or was never asked about labels, has no pictures of them. Raises OSError.
    """
    drawn = pictures(material) if report.results[0].outcome == "passed" else {}
    (folder / "pictures").mkdir(exist_ok=True)
    for name, png in drawn.items():
        replace_durably(folder / "pictures" / name, png)
    replace_durably(folder / "gates.html", page(report, drawn).encode())
    replace_durably(folder / FILE, report.to_json())


def _first_failure(results: list[GateResult]) -> str | None:
    return next((one.gate for one in results if one.outcome == "failed"), None)


def _judge(material: Material, candidate: str, failed: str | None) -> tuple[int, list[GateResult]]:
    if failed:
        why = f"The candidate failed {failed!r}, so no label was spent on it."
        return 1, [not_asked(gate, why) for gate in JUDGED]
    offered = [row.sample_id for row in material.rows(JUDGING)]
    allowance = spend(material.inputs.spent, candidate, offered)
    if allowance.used_up:
        return allowance.attempt, list(_used_up(len(offered)))
    return allowance.attempt, _answers(material, allowance)


def _answers(material: Material, allowance: Allowance) -> list[GateResult]:
    judging = Judging(material, allowance.labels, alpha_of(allowance.attempt))
    found = gain(judging)
    return [*found, unlabelled(judging, found), placebo(judging), slices(judging)]


def _used_up(offered: int) -> Iterator[GateResult]:
    needed = max(offered, FEWEST_GROUPS)
    why = (
        f"All {offered} judging labels have judged {MOST_ATTEMPTS} candidates and are used up: collect about "
        f"{needed} new audit labels and make a new snapshot."
    )
    for gate in JUDGED:
        yield GateResult(gate=gate, outcome="too_few_labels", sentence=why, needed=needed)
