"""The report of the gates as a file."""

from pathlib import Path

import pytest

from models.contract.bundle import BundleError
from models.contract.gate_report import FILE, GateReport, GateResult, Outcome, read_gate_report


def _report(*outcomes: Outcome) -> GateReport:
    results = tuple(GateResult(gate=f"gate {i}", outcome=one, sentence="Said.") for i, one in enumerate(outcomes))
    return GateReport(candidate="c1", parent=1, made_at="2026-01-01T00:00:00+00:00", attempt=1, results=results)


def test_a_report_passes_if_each_gate_passed_or_was_not_asked() -> None:
    assert _report("passed", "not_asked").passed


@pytest.mark.parametrize("other", ["failed", "too_few_labels"])
def test_a_failed_gate_and_too_few_labels_are_no_pass(other: Outcome) -> None:
    assert not _report("passed", other).passed


def test_gates_that_were_never_asked_are_no_pass() -> None:
    assert not _report().passed
    assert not _report("not_asked").passed


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    report = _report("passed", "failed")
    (tmp_path / FILE).write_bytes(report.to_json())
    assert read_gate_report(tmp_path) == report


def test_a_missing_report_says_that_the_gates_have_not_run(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="have not run"):
        read_gate_report(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"candidate": "c1"}'])
def test_a_damaged_report_says_where(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BundleError, match="is damaged at"):
        read_gate_report(tmp_path)
