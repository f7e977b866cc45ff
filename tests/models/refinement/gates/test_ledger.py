"""The ledger of judging labels: durable, without free looks, and never silently empty."""

from pathlib import Path

import pytest

from models.contract.bundle import BundleError
from models.refinement.gates.attempts import MOST_ATTEMPTS
from models.refinement.gates.ledger import read_attempts, spend

LABELS = ["a", "b", "c"]


def test_each_candidate_is_a_new_attempt_on_the_same_labels(tmp_path: Path) -> None:
    ledger = tmp_path / "candidates" / "spent.ndjson"
    assert [spend(ledger, f"c{i}", LABELS).attempt for i in range(3)] == [1, 2, 3]
    assert [one.candidate for one in read_attempts(ledger)] == ["c0", "c1", "c2"]


def test_the_same_candidate_on_the_same_labels_is_the_same_attempt(tmp_path: Path) -> None:
    ledger = tmp_path / "spent.ndjson"
    first = spend(ledger, "c0", LABELS)
    spend(ledger, "c1", LABELS)
    assert spend(ledger, "c0", reversed_labels()) == first
    assert len(read_attempts(ledger)) == 2


def reversed_labels() -> list[str]:
    return LABELS[::-1]


def test_the_same_candidate_on_more_labels_looks_again(tmp_path: Path) -> None:
    ledger = tmp_path / "spent.ndjson"
    spend(ledger, "c0", LABELS)
    assert spend(ledger, "c0", [*LABELS, "d"]).attempt == 2


def test_after_five_candidates_the_labels_are_used_up_and_nothing_more_is_recorded(tmp_path: Path) -> None:
    ledger = tmp_path / "spent.ndjson"
    for number in range(MOST_ATTEMPTS):
        spend(ledger, f"c{number}", LABELS)
    last = spend(ledger, "late", LABELS)
    assert last.used_up
    assert not last.labels
    assert len(read_attempts(ledger)) == MOST_ATTEMPTS


def test_new_labels_judge_where_the_old_ones_are_used_up(tmp_path: Path) -> None:
    ledger = tmp_path / "spent.ndjson"
    for number in range(MOST_ATTEMPTS):
        spend(ledger, f"c{number}", LABELS)
    fresh = spend(ledger, "late", [*LABELS, "new"])
    assert (fresh.attempt, fresh.labels) == (1, frozenset({"new"}))


def test_no_labels_leave_no_line(tmp_path: Path) -> None:
    assert spend(tmp_path / "spent.ndjson", "c0", []).attempt == 1
    assert not read_attempts(tmp_path / "spent.ndjson")


def test_a_line_that_a_crash_cut_off_showed_no_result_and_is_replaced(tmp_path: Path) -> None:
    ledger = tmp_path / "spent.ndjson"
    spend(ledger, "c0", LABELS)
    with ledger.open("ab") as file:
        file.write(b'{"candidate":"c1","at":"20')
    assert spend(ledger, "c1", LABELS).attempt == 2
    assert [one.candidate for one in read_attempts(ledger)] == ["c0", "c1"]


def test_a_damaged_ledger_stops_the_gates(tmp_path: Path) -> None:
    ledger = tmp_path / "spent.ndjson"
    ledger.write_text("gone\n")
    with pytest.raises(BundleError, match="damaged"):
        spend(ledger, "c0", LABELS)


def test_a_ledger_that_cannot_be_written_stops_the_gates(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="no label judges without"):
        spend(tmp_path / "file" / "spent.ndjson", "c0", LABELS)
