import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models.contract.bundle import publish, read_manifest
from models.contract.candidates import change_state, new_candidate
from models.contract.gate_report import FILE, GateReport, GateResult
from models.contract.snapshot import read_snapshot
from models.refinement.config import RefinementConfig
from models.refinement.cycle import Refinement
from models.refinement.gates.gain import MEAN, TAIL
from models.refinement.judging import anchor, inputs_of, line
from models.tasks.digits import Digits


@pytest.fixture
def store(tmp_path: Path, parent: Path) -> Path:
    """Version 1, and the versions 2 and 3 that grew out of the one before."""
    folder = tmp_path / "digits"
    shutil.copytree(parent.parent, folder)
    manifest = read_manifest(folder / "1")
    for version in (2, 3):
        made = manifest.provenance.model_copy(update={"parent_version": str(version - 1)})
        child = manifest.model_copy(update={"version": str(version), "provenance": made})
        publish(tmp_path, child, {"model.onnx": (folder / "1" / "model.onnx").read_bytes(), "model_card.md": b""})
        candidate = new_candidate(
            folder, parent=version - 1, parent_sha256=manifest.onnx_sha256, snapshot=None, who="ann"
        )
        change_state(candidate, "gated", who="ann", reason="it was judged", passed=True)
        change_state(candidate, "live", who="ann", reason="it is good", version=version)
        (candidate / "version").write_text(str(version))
    return folder


def prove(store: Path, version: int) -> None:
    results = tuple(GateResult(gate=gate, outcome="passed", sentence="It is better.") for gate in (MEAN, TAIL))
    report = GateReport(candidate="c", parent=1, made_at="2026-01-01T00:00:00+00:00", attempt=1, results=results)
    (folder,) = (path.parent for path in store.glob("candidates/*/version") if path.read_text() == str(version))
    (folder / FILE).write_bytes(report.to_json())


def test_the_anchor_is_the_first_ancestor_while_no_gain_is_proven(store: Path) -> None:
    assert anchor(store, 3) == store / "1"
    assert anchor(store, 1) is None


def test_the_anchor_is_the_last_version_whose_gain_was_proven(store: Path) -> None:
    prove(store, 2)
    assert anchor(store, 3) == store / "2"
    assert anchor(store, 2) is None


def test_rejected_audits_of_the_snapshot_are_judging_images_without_a_label(
    store: Path, snapshot: Path, few_digits: Digits, quick: RefinementConfig, tmp_path: Path
) -> None:
    shutil.copytree(snapshot, tmp_path / "snapshot")
    known, _ = read_snapshot(snapshot)
    with_rejects = known.model_copy(update={"rejected_audits": 7})
    (tmp_path / "snapshot" / "snapshot.json").write_text(with_rejects.model_dump_json())
    asked = Refinement(tmp_path, "digits", few_digits, snapshot, quick, "ann")
    assert inputs_of(asked, store / "3", store / "2", None).skipped == 0
    asked = replace(asked, snapshot=tmp_path / "snapshot")
    assert inputs_of(asked, store / "3", store / "2", None).skipped == 4  # half of them judge


def test_a_gate_is_one_line() -> None:
    found = line(GateResult(gate="gain: mean", outcome="too_few_labels", sentence="It needs about 150 more."))
    assert found == "gain: mean: too few labels. It needs about 150 more."
