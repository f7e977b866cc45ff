"""Promotion of candidates: what is refused, and that the next request continues one that was killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.contract.bundle import BundleError, read_manifest
from models.contract.candidates import change_state, new_candidate, read_candidate
from models.contract.gate_report import GateReport, GateResult
from models.contract.history import HISTORY, read_history
from models.contract.index import ModelIndex, read_index
from models.contract.live import LiveMoved, NoVersion, read_state, roll_back, swap_live
from models.contract.promotion import GatesNotPassed, promote_candidate, settle

WHY = "a test"
# Kills itself in the middle of the promotion of a candidate, just before or just after the named step.
KILLED = """
import os, signal, sys
from pathlib import Path
from models.contract import live, promotion

step, moment, folder, name = sys.argv[1:]
module = promotion if hasattr(promotion, step) else live
real = getattr(module, step)

def killed(*arguments, **named):
    if moment == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, step, killed)
promotion.promote_candidate(Path(folder), name, 1, who="ada", reason="killed")
"""


def candidate(folder: Path, *, passed: bool | None = True, parent: int = 1, seed: int = 7) -> Path:
    """A trained candidate, gated unless `passed` is None."""
    live = read_manifest(folder / str(parent))
    made = new_candidate(folder, parent=parent, parent_sha256=live.onnx_sha256, snapshot=None, who="ada")
    provenance = live.provenance.model_copy(update={"seed": seed})
    manifest = live.model_copy(update={"version": "candidate", "provenance": provenance})
    (made / "manifest.json").write_bytes(manifest.to_json())
    for file in ("model.onnx", "model_card.md"):
        (made / file).write_bytes((folder / "1" / file).read_bytes())
    (made / "learned.txt").write_text("a\nb\n")
    if passed is not None:
        change_state(made, "gated", who="ada", reason="judged", passed=passed)
    return made


def promote(made: Path, expected: int = 1, *, override: bool = False) -> bool:
    folder = made.parent.parent
    return promote_candidate(folder, made.name, expected, who="ada", reason=WHY, override=override).is_change


def test_a_promoted_candidate_is_the_next_version_and_a_repeated_request_makes_no_second_one(folder: Path) -> None:
    made = candidate(folder)
    assert [promote(made) for _ in range(2)] == [True, False]
    assert read_index(folder) == ModelIndex(live=4, previous=1)
    assert read_manifest(folder / "4").version == "4"
    assert (folder / "4/learned.txt").read_text() == "a\nb\n"
    assert not (folder / "5").exists()
    assert (read_candidate(made).state, read_candidate(made).version) == ("live", 4)
    assert [change.candidate for change in read_history(folder)] == [None, made.name]
    assert b"candidate" not in (folder / HISTORY).read_bytes().splitlines()[0]  # lines of versions stay as they were


def test_the_one_before_is_superseded_and_one_that_is_taken_back_says_so(folder: Path) -> None:
    first = candidate(folder)
    promote(first)
    second = candidate(folder, parent=4, seed=8)
    promote(second, 4)
    assert (read_candidate(first).state, read_candidate(second).state) == ("superseded", "live")
    roll_back(folder, 5, who="bob", reason="worse")
    settle(folder)
    record = read_candidate(second)
    assert (record.state, record.who, record.reason) == ("rolled_back", "bob", "worse")
    with pytest.raises(BundleError, match="is rolled_back and cannot be promoted"):
        promote(second, 4)


def test_failed_gates_are_named_and_only_an_override_with_its_reason_passes_them(folder: Path) -> None:
    made = candidate(folder, passed=False)
    results = (
        GateResult(gate="pins", outcome="passed", sentence="fine"),
        GateResult(gate="gain", outcome="failed", sentence="worse"),
        GateResult(gate="slices", outcome="too_few_labels", sentence="few"),
    )
    report = GateReport(candidate=made.name, parent=1, made_at="2026-12-01", attempt=1, results=results)
    (made / "gates.json").write_bytes(report.to_json())
    with pytest.raises(GatesNotPassed, match=r"did not pass: gain \(failed\), slices \(too few labels\)"):
        promote(made)
    assert not (folder / "4").exists()
    assert promote(made, override=True)
    said = read_history(folder)[-1].reason
    assert said == "gates overridden: gain (failed), slices (too few labels); a test"
    assert (folder / "4/gates.json").read_bytes() == report.to_json()


def test_a_candidate_that_has_not_been_gated_needs_an_override(folder: Path) -> None:
    made = candidate(folder, passed=None)
    with pytest.raises(GatesNotPassed, match="is training and cannot be promoted: wait for its gates"):
        promote(made)
    assert promote(made, override=True)
    assert read_history(folder)[-1].reason.startswith("gates overridden: its gates have not run")


def test_a_candidate_that_was_judged_against_another_version_is_refused(folder: Path) -> None:
    made = candidate(folder)
    swap_live(folder, 2, 1, reason=WHY)
    with pytest.raises(LiveMoved, match="version 2 of tiny is live, not 1"):
        promote(made)
    with pytest.raises(LiveMoved, match="was judged against version 1, and version 2 of tiny is live"):
        promote(made, 2, override=True)
    assert not (folder / "4").exists()


def test_unknown_and_damaged_candidates_change_nothing(folder: Path) -> None:
    with pytest.raises(NoVersion, match="has no candidate"):
        promote_candidate(folder, "../2", 1, reason=WHY)
    made = candidate(folder)
    (made / "model.onnx").write_bytes(b"cut")
    with pytest.raises(BundleError, match="SHA-256"):
        promote(made)
    second = candidate(folder)
    (second / "model_card.md").unlink()
    with pytest.raises(BundleError, match=r"model_card\.md cannot be read"):
        promote(second)
    foreign = read_manifest(folder / "1").model_copy(update={"model": "other"})
    (second / "manifest.json").write_bytes(foreign.to_json())
    with pytest.raises(BundleError, match="is one of model other"):
        promote(second)
    assert read_index(folder) == ModelIndex(live=1)
    assert not (folder / "4").exists()


@pytest.mark.parametrize(
    ("step", "moment"),
    [
        ("publish", "before"),
        ("publish", "after"),
        ("announce", "after"),
        ("write_index", "after"),
        ("record", "after"),
        ("swap_live", "after"),
        ("change_state", "before"),
        ("change_state", "after"),
    ],
)
def test_a_promotion_that_is_killed_is_continued_by_the_same_request(folder: Path, step: str, moment: str) -> None:
    made = candidate(folder)
    with pytest.raises(LiveMoved):
        swap_live(folder, 3, 2, reason=WHY)  # it begins the history, so that `record` is called once below
    arguments = [sys.executable, "-c", KILLED, step, moment, str(folder), made.name]
    assert subprocess.run(arguments, check=False, timeout=60).returncode == -signal.SIGKILL
    assert read_index(folder).live in {1, 4}
    promote(made)
    assert read_index(folder) == ModelIndex(live=4, previous=1)
    assert (read_candidate(made).state, read_candidate(made).version) == ("live", 4)
    assert not (folder / "5").exists()
    assert [change.version for change in read_state(folder).changes] == [1, 4]
