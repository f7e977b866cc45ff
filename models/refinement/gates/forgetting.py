"""The gates on the task's own test split, which never changes: the candidate has not forgotten what was known."""

from pathlib import Path

from models.contract.gate_report import GateResult
from models.refinement.gates.answers import Question, answer, not_asked
from models.refinement.gates.material import Material
from models.refinement.gates.paired import Pairs

MARGIN = 0.02  # of the mean loss


def forgetting(material: Material) -> GateResult:
    """Against live."""
    return _against(material, "forgetting", material.inputs.live, "live")


def anchor(material: Material) -> GateResult:
    """Against the last version whose gain was proven, because the margins of many promotions add up."""
    if material.inputs.anchor is None:
        return not_asked("anchor", "No version before this one has a proven gain, so there is none to compare with.")
    return _against(material, "anchor", material.inputs.anchor, "the last version whose gain was proven")


def _against(material: Material, gate: str, other: Path, name: str) -> GateResult:
    live, candidate = (material.losses(folder, "test") for folder in (other, material.inputs.candidate))
    pairs = Pairs.of(live, candidate, material.examples("test").source)
    return answer(Question(gate, "mean loss", MARGIN, "test images", name), pairs)
