import re
import shutil
from pathlib import Path

import pytest

from models.contract.candidates import list_candidates
from models.contract.snapshot import SnapshotError
from models.refinement.command import ask, take_snapshot
from models.refinement.config import Arm
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
    ("arguments", "message"),
    [
        (["nobody"], "is .* a bundle store"),
        (["digits", "--snapshot", "nothing"], "is not a finished snapshot"),
        (["digits", "--data", "somewhere"], "takes no --data"),
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
