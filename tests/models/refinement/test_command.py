import re
import shutil
from pathlib import Path

import pytest

from models.contract.candidates import CandidateRecord, list_candidates
from models.contract.snapshot import SnapshotError
from models.refinement.command import ask, print_outcome, take_snapshot
from models.refinement.config import Arm
from models.refinement.cycle import LEFT_OUT, Judged, RefinementResult
from tests.models.test_cli import invoke

ALL: Arm = "all"


@pytest.fixture
def store(tmp_path: Path, parent: Path) -> Path:
    shutil.copytree(parent.parent, tmp_path / "bundles" / "digits")
    return tmp_path / "bundles"


def test_the_settings_follow_the_labels_that_teach(store: Path, snapshot: Path) -> None:
    wish = ask("digits", store, snapshot, None, "ann", 0.5, ALL, 3, "")
    assert (wish.live.name, wish.config.seed, wish.config.steps) == ("1", 3, 150)
    assert wish.config.keep_statistics


def test_a_snapshot_that_cannot_be_taken_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SnapshotError, match="no snapshot of digits could be taken: give a folder with --snapshot"):
        take_snapshot("digits", "http://localhost:9")


@pytest.mark.parametrize(
    ("passed", "words"),
    [(True, "Make it live: losscast promote digits c1"), (False, "did not pass: version 1 stays live")],
)
def test_the_outcome_says_what_was_left_out_what_the_gates_say_and_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    passed: bool,  # noqa: FBT001 - a parameter of the test
    words: str,
) -> None:
    (tmp_path / LEFT_OUT).write_text("{}\n{}\n")
    now = "2026-01-01T00:00:00+00:00"
    record = CandidateRecord(
        id="c1",
        model="digits",
        state="gated",
        passed=passed,
        parent=1,
        parent_sha256="0" * 64,
        snapshot=None,
        made_at=now,
        changed_at=now,
        who="ann",
        reason="",
        version=None,
    )
    print_outcome(RefinementResult(tmp_path, record, Judged(passed=passed, lines=("gain: passed. It is better.",))))
    first, gate, last = capsys.readouterr().out.splitlines()
    assert first.startswith("2 labels are left out")
    assert gate == "gain: passed. It is better."
    assert words in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "is .* a bundle store"),
        (["digits", "--snapshot", "nothing"], "is not a finished snapshot"),
        (["digits", "--data", "somewhere"], "takes no --data"),
        (["digits", "--watch", "--snapshot", "some"], "leave --snapshot out"),
    ],
)
def test_wrong_options_are_one_line_and_make_no_candidate(
    store: Path, snapshot: Path, arguments: list[str], message: str
) -> None:
    given = [*arguments, *([] if "--snapshot" in arguments else ["--snapshot", str(snapshot)]), "--store", str(store)]
    run = invoke("refine", *given)
    assert run.exit_code == 1
    lines = run.stderr.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert list_candidates(store / "digits") == []
