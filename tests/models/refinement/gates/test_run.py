"""All gates on real ONNX files: who passes, who does not, and what it costs in labels."""

import dataclasses
import re
from pathlib import Path

import pytest

from models.contract.gate_report import GateReport, GateResult, read_gate_report
from models.contract.snapshot import Row
from models.refinement.gates.attempts import MOST_ATTEMPTS
from models.refinement.gates.ledger import read_attempts
from models.refinement.gates.page import page
from models.refinement.gates.run import GateInputs, Material, run_gates, write_report
from models.tasks.digits import Digits
from tests.models.refinement.gates.conftest import TinyWorld

REPOSITORY = Path(__file__).resolve().parents[4]


def _outcomes(report: GateReport) -> dict[str, str]:
    return {result.gate: result.outcome for result in report.results}


def _sentence(report: GateReport, gate: str) -> str:
    return next(result.sentence for result in report.results if result.gate == gate)


def test_a_better_candidate_passes_and_its_labels_are_spent(world: TinyWorld) -> None:
    inputs = world.inputs(world.version("live", 0.5), world.version("better"), world.snapshot("labels", 200, 20))
    report = run_gates(Material(inputs), "c1")
    assert report.passed, report
    assert report.attempt == 1
    assert _outcomes(report)["gain: worst decile"] == "passed"
    assert [len(one.labels) for one in read_attempts(inputs.spent)] == [220]


def test_a_worse_candidate_fails_and_spends_no_label(world: TinyWorld) -> None:
    inputs = world.inputs(world.version("live"), world.version("worse", 0.5), world.snapshot("labels", 200))
    report = run_gates(Material(inputs), "c1")
    assert not report.passed
    assert _outcomes(report)["forgetting"] == "failed"
    assert "no label was spent" in _sentence(report, "gain: mean")
    assert not read_attempts(inputs.spent)


def test_the_same_model_again_is_no_gain(world: TinyWorld) -> None:
    live = world.version("live")
    report = run_gates(Material(world.inputs(live, live, world.snapshot("labels", 200))), "c1")
    assert _outcomes(report)["forgetting"] == "passed"
    assert _outcomes(report)["gain: worst decile"] == "failed"
    assert "nothing changed" in _sentence(report, "gain: worst decile")


@pytest.mark.parametrize("count", [0, 1, 60])
def test_too_few_labels_are_an_answer_with_a_number(world: TinyWorld, count: int) -> None:
    snapshot = world.snapshot("labels", count)
    report = run_gates(Material(world.inputs(world.version("live", 0.5), world.version("better"), snapshot)), "c1")
    answer = next(result for result in report.results if result.gate == "gain: mean")
    assert not report.passed
    assert (answer.outcome, answer.needed) == ("too_few_labels", 100 - count)


def test_without_a_snapshot_no_label_judges(world: TinyWorld) -> None:
    report = run_gates(Material(world.inputs(world.version("live", 0.5), world.version("better"))), "c1")
    assert _outcomes(report)["gain: mean"] == "too_few_labels"


def test_labels_of_one_camera_in_one_hour_are_one_group(world: TinyWorld) -> None:
    def one_camera(row: Row) -> Row:
        return row.model_copy(update={"source": "door", "group": "door 0"})

    snapshot = world.snapshot("labels", 200, change=one_camera)
    report = run_gates(Material(world.inputs(world.version("live", 0.5), world.version("better"), snapshot)), "c1")
    assert _outcomes(report)["gain: mean"] == "too_few_labels"
    assert "1 independent groups" in _sentence(report, "gain: mean")


def test_after_five_candidates_the_labels_are_used_up(world: TinyWorld) -> None:
    inputs = world.inputs(world.version("live", 0.5), world.version("better"), world.snapshot("labels", 120))
    attempts = [run_gates(Material(inputs), f"c{number}").attempt for number in range(MOST_ATTEMPTS)]
    late = run_gates(Material(inputs), "late")
    assert attempts == [1, 2, 3, 4, 5]
    assert _outcomes(late)["gain: mean"] == "too_few_labels"
    assert "collect about 120 new audit labels" in _sentence(late, "gain: mean")


def test_skipped_images_that_could_undo_the_gain_fail_it(world: TinyWorld) -> None:
    inputs = world.inputs(world.version("live", 0.5), world.version("better"), world.snapshot("labels", 200))
    few = run_gates(Material(dataclasses.replace(inputs, skipped=5)), "c1")
    many = run_gates(Material(dataclasses.replace(inputs, skipped=200)), "c1")
    assert _outcomes(few)["skipped images"] == "passed"
    assert _outcomes(many)["skipped images"] == "failed"


def test_an_image_that_is_gone_counts_as_skipped(world: TinyWorld) -> None:
    snapshot = world.snapshot("labels", 200)
    next((snapshot / "images").iterdir()).unlink()
    report = run_gates(Material(world.inputs(world.version("live", 0.5), world.version("better"), snapshot)), "c1")
    assert "1 judging images have no label" in _sentence(report, "skipped images")


def test_a_candidate_that_is_no_better_than_its_placebo_fails(world: TinyWorld) -> None:
    better = world.version("better")
    inputs = world.inputs(world.version("live", 0.5), better, world.snapshot("labels", 200))
    report = run_gates(Material(dataclasses.replace(inputs, placebo=better, anchor=better)), "c1")
    assert _outcomes(report)["placebo"] == "failed"
    assert _outcomes(report)["anchor"] == "passed"


def test_the_shipped_digits_keep_what_they_know_against_themselves(tmp_path: Path) -> None:
    class OneView(Digits):
        test_views = 1

    bundle = REPOSITORY / "bundles" / "digits" / "1"
    report = run_gates(
        Material(GateInputs(bundle, bundle, OneView(), None, None, None, None, tmp_path / "spent.ndjson")), "c1"
    )
    outcomes = _outcomes(report)
    assert {outcomes[gate] for gate in ("integrity", "forgetting", "failure head: AUROC")} == {"passed"}
    assert not report.passed


def test_the_report_is_a_file_and_a_page_without_anything_from_elsewhere(world: TinyWorld) -> None:
    inputs = world.inputs(world.version("live", 0.5), world.version("better"), world.snapshot("labels", 120))
    report = run_gates(Material(inputs), "c1")
    write_report(report, Material(inputs), world.root)
    text = (world.root / "gates.html").read_text()
    assert read_gate_report(world.root) == report
    assert {path.name for path in (world.root / "pictures").iterdir()} == {
        "better.png",
        "worse.png",
        "risk-coverage.png",
    }
    assert all(result.gate in text for result in report.results)
    assert not re.findall(r"https?:|<script|<link", text)
    assert len(re.findall(r'src="data:image/png;base64,', text)) == 3


def test_names_from_elsewhere_are_text_on_the_page() -> None:
    result = GateResult(gate="slices", outcome="failed", sentence="source <script>alert(1)</script> is worse")
    report = GateReport(candidate="c", parent=1, made_at="now", attempt=1, results=(result,))
    assert "<script>" not in page(report, {})
