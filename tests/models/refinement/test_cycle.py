import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.contract.bundle import read_manifest
from models.contract.candidates import CandidateRecord, change_state, list_candidates, new_candidate
from models.contract.fence import Fence, FencedOff
from models.contract.index import read_index
from models.contract.learned import FILE as LEARNED
from models.contract.lock import locked
from models.contract.snapshot import SnapshotError, read_snapshot
from models.refinement.config import RefinementConfig, RefinementError
from models.refinement.cycle import (
    WORK,
    Judged,
    Refinement,
    known_samples,
    refine,
    unfinished_snapshot,
)
from models.refinement.fine_tuning import Refined
from models.tasks.digits import Digits
from models.training.config import Progress
from models.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[3]


class KilledError(BaseException):
    """Leaves things as kill -9 does, without another process: nothing of the cycle handles it."""


def killed_at(work: str) -> Progress:
    def progress(what: str, _done: int, _total: int) -> None:
        if what == work:
            raise KilledError

    return progress


def really_killed_at(work: str, asked: Refinement) -> int:
    """The exit status of a process that refines."""
    command = [sys.executable, "-m", "tests.models.refinement.killed", str(asked.store), str(asked.snapshot), work]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def start(folder: Path) -> Trainer:
    return Trainer.start(folder=folder)


def passes(live: Path, candidate: Path, placebo: Path | None, record: CandidateRecord) -> Judged:
    assert all((folder / "model.onnx").exists() for folder in (live, candidate, placebo) if folder)
    assert record.state == "training"
    return Judged(passed=True, lines=("all: passed",))


@pytest.fixture
def asked(tmp_path: Path, parent: Path, few_digits: Digits, snapshot: Path, quick: RefinementConfig) -> Refinement:
    shutil.copytree(parent.parent, tmp_path / "bundles" / "digits")
    return Refinement(tmp_path / "bundles", "digits", few_digits, snapshot, quick, "ann")


def fingerprints(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "candidates" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_a_refinement_that_was_killed_twice_ends_with_the_same_candidate(asked: Refinement, refined: Refined) -> None:
    before = fingerprints(asked.model_folder)
    for work in ("fold 2", "placebo: fine-tune"):
        assert really_killed_at(work, asked) == -signal.SIGKILL
        (record,) = list_candidates(asked.model_folder)
        assert record.state == "training"
        assert unfinished_snapshot(asked.store, "digits") == asked.snapshot.resolve()
    outcome = refine(asked, start, passes)
    assert outcome.folder.name == record.id
    assert (outcome.folder / "model.onnx").read_bytes() == refined.onnx
    assert (outcome.record.state, outcome.record.passed, outcome.record.who) == ("gated", True, "ann")
    assert read_manifest(outcome.folder).evaluation["mean_loss"] > 0
    assert refined.network in (outcome.folder / "model_card.md").read_text()
    assert (outcome.folder / LEARNED).read_text().split() == list(refined.learned)
    assert not (outcome.folder / WORK).exists()
    assert fingerprints(asked.model_folder) == before
    change_state(outcome.folder, "live", who="ann", reason="good", version=2)
    assert known_samples(asked.model_folder, 2) == list(refined.learned)
    assert known_samples(asked.model_folder, 1) == []


def test_another_refinement_replaces_the_one_that_a_crash_left(asked: Refinement) -> None:
    with pytest.raises(KilledError):
        refine(asked, start, passes, killed_at("fine-tune"))
    other = replace(asked, config=replace(asked.config, seed=1))
    with pytest.raises(KilledError):
        refine(other, start, passes, killed_at("fine-tune"))
    first, second = list_candidates(asked.model_folder)
    assert (first.state, second.state) == ("rejected", "training")
    assert not (asked.model_folder / "candidates" / first.id / WORK).exists()


def test_a_candidate_without_settings_is_taken_over(asked: Refinement) -> None:
    live = read_manifest(asked.model_folder / "1")
    folder = new_candidate(
        asked.model_folder,
        parent=1,
        parent_sha256=live.onnx_sha256,
        snapshot=read_snapshot(asked.snapshot)[0].fingerprint,
        who="ann",
    )
    with pytest.raises(KilledError):
        refine(asked, start, passes, killed_at("fine-tune"))
    assert [record.id for record in list_candidates(asked.model_folder)] == [folder.name]


def test_two_refinements_at_once_are_refused(asked: Refinement) -> None:
    (asked.model_folder / "candidates").mkdir()
    with (
        locked(asked.model_folder / "candidates" / ".refine.lock"),
        pytest.raises(RefinementError, match="another refinement of digits is running"),
    ):
        refine(asked, start, passes)
    assert list_candidates(asked.model_folder) == []


def test_a_refinement_that_lost_its_lock_writes_nothing(
    asked: Refinement, monkeypatch: pytest.MonkeyPatch, refined: Refined
) -> None:
    candidates = asked.model_folder / "candidates"

    def overtaken(*_: object) -> Refined:
        Fence(candidates, 5).enter()
        return refined

    monkeypatch.setattr("models.refinement.cycle.fine_tune", overtaken)
    with pytest.raises(FencedOff):
        refine(replace(asked, token=4), start, passes)
    (record,) = list_candidates(asked.model_folder)
    assert record.state == "training"
    assert not (candidates / record.id / "model.onnx").exists()
    with pytest.raises(FencedOff):  # nor does it begin again
        refine(replace(asked, token=4), start, passes)
    assert refine(replace(asked, token=5), start, passes).folder.name == record.id


def test_a_snapshot_of_another_model_is_refused_before_anything_is_made(asked: Refinement) -> None:
    shutil.copytree(asked.model_folder, asked.store / "numbers")
    with pytest.raises(SnapshotError, match="run `losscast snapshot numbers`"):
        refine(replace(asked, model="numbers"), start, passes)
    assert not (asked.store / "numbers" / "candidates").exists()


def test_a_candidate_that_fails_leaves_the_live_version(
    asked: Refinement, monkeypatch: pytest.MonkeyPatch, refined: Refined
) -> None:
    monkeypatch.setattr("models.refinement.cycle.fine_tune", _made(refined))
    outcome = refine(asked, start, lambda *_: Judged(passed=False, lines=("gain: failed",)))
    assert (outcome.record.state, outcome.record.passed) == ("gated", False)
    assert read_index(asked.model_folder).live == 1


def test_a_store_that_cannot_be_written_is_refused_before_anything_is_trained(asked: Refinement) -> None:
    (asked.model_folder / "candidates").touch()  # root can write into a folder that is read-only, but not into a file
    before = fingerprints(asked.model_folder)
    with pytest.raises(OSError, match="candidates"):
        refine(asked, start, passes, killed_at("fine-tune"))
    assert fingerprints(asked.model_folder) == before


def test_a_full_disk_leaves_a_candidate_that_the_next_refinement_finishes(
    asked: Refinement, monkeypatch: pytest.MonkeyPatch, refined: Refined
) -> None:
    monkeypatch.setattr("models.refinement.cycle.fine_tune", _made(refined))
    with monkeypatch.context() as full:
        full.setattr("models.refinement.cycle.evaluate", _no_space)
        with pytest.raises(OSError, match="No space left"):
            refine(asked, start, passes)
    outcome = refine(asked, start, passes)
    assert [record.id for record in list_candidates(asked.model_folder)] == [outcome.record.id]


def _no_space(*_: object) -> dict[str, float]:
    raise OSError(28, "No space left on device")


def _made(refined: Refined) -> Callable[..., Refined]:
    return lambda *_: refined
