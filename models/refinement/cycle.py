"""One turn of the loop: from a snapshot and the live version to a candidate that the gates have judged.

live version -> candidate folder (training) -> fine-tuned candidate and its placebo -> gates -> gated, passed or not.
One refinement of a model runs at a time. Every step leaves whole files, so a refinement that was killed goes on where
it stopped when the same one is asked for again; another one replaces it. The live version is never touched.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path

import orjson

from models.contract.bundle import read_manifest
from models.contract.candidates import (
    CandidateRecord,
    change_state,
    list_candidates,
    new_candidate,
    read_candidate,
)
from models.contract.durable import replace_durably
from models.contract.fence import Fence
from models.contract.index import check_store, read_index
from models.contract.learned import FILE as LEARNED
from models.contract.learned import learned_by
from models.contract.lock import locked
from models.contract.runtime import load_runtime
from models.contract.snapshot import LeftOut, Snapshot, SnapshotError, read_snapshot
from models.pipeline import evaluate
from models.publishing.model_card import model_card
from models.refinement.config import Busy, RefinementConfig
from models.refinement.fine_tuning import Refined, fine_tune
from models.refinement.learner import Learner
from models.tasks.protocol import RegressionTask
from models.training.config import Progress, silent
from models.training.loop import Trainer

CANDIDATES = "candidates"
WORK = "work"  # in a candidate's folder: checkpoints, logs, settings and the placebo; removed once it is gated
SETTINGS = "settings.json"
LEFT_OUT = "left_out.ndjson"  # labels that could not be used, each with its reason
LOCK = ".refine.lock"

StartTrainer = Callable[[Path], Trainer]  # a trainer that keeps its checkpoints in that folder


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gates said."""

    passed: bool
    lines: tuple[str, ...]  # one for each gate


# (live version, candidate folder, placebo folder if there is one, record) -> the verdict; it may write reports into the
# candidate's folder.
Judge = Callable[[Path, Path, Path | None, CandidateRecord], Judged]


@dataclass(frozen=True, slots=True)
class Refinement:
    """A request for one refinement."""

    store: Path
    model: str
    task: RegressionTask
    snapshot: Path
    config: RefinementConfig
    who: str
    token: int | None = None  # of the lock over all hosts; None: the lock of this store is enough
    learner: Learner | None = None  # None: by the recipe of the task

    @property
    def model_folder(self) -> Path:
        return self.store / self.model

    def check_fence(self) -> None:
        """Raises FencedOff when a later refinement has taken over. Called before every write."""
        if self.token is not None:
            Fence(self.model_folder / CANDIDATES, self.token).check()


@dataclass(frozen=True, slots=True)
class RefinementResult:
    """A candidate with its verdict."""

    folder: Path
    record: CandidateRecord
    judged: Judged

    @property
    def left_out(self) -> int:
        """How many labels could not be used."""
        return len((self.folder / LEFT_OUT).read_bytes().splitlines())


def refine(asked: Refinement, start: StartTrainer, judge: Judge, progress: Progress = silent) -> RefinementResult:
    """Makes a candidate out of the live version, or goes on with the one that a crash left, and judges it.

    Raises Busy (another refinement is running), FencedOff (another one has taken over), SnapshotError, BundleError,
    OSError, and ValueError for labels that nothing can be learned from. The candidate then stays in state training.
    """
    load_runtime()
    live = live_version(asked.store, asked.model)
    check_store(asked.store, asked.model)
    snapshot = checked_snapshot(asked.snapshot, asked)
    with _alone(asked):
        folder = _candidate(asked, live, snapshot)
        _train(asked, live, folder, start, progress)
        return _judge(asked, live, folder, judge)


def live_version(store: Path, model: str) -> Path:
    """The folder of the live version. Raises BundleError."""
    return store / model / str(read_index(store / model).live)


def checked_snapshot(folder: Path, asked: Refinement) -> Snapshot:
    """Raises SnapshotError unless the snapshot is whole and of this model."""
    snapshot, _ = read_snapshot(folder)
    if snapshot.model != asked.model or snapshot.task != asked.task.task:
        raise SnapshotError(
            f"{folder} is a snapshot of model {snapshot.model} or of another task, not of {asked.model}: "
            f"run `losscast snapshot {asked.model}`"
        )
    return snapshot


@contextmanager
def _alone(asked: Refinement) -> Iterator[None]:
    folder = asked.model_folder / CANDIDATES
    folder.mkdir(exist_ok=True)
    lock = locked(folder / LOCK, wait_s=0)
    try:
        lock.__enter__()
    except TimeoutError as error:
        raise Busy(
            f"another refinement of {asked.model} is running on {asked.store}: wait until it has ended"
        ) from error
    try:
        if asked.token is not None:
            Fence(folder, asked.token).enter()
        yield
    finally:
        lock.__exit__(None, None, None)


def _candidate(asked: Refinement, live: Path, snapshot: Snapshot) -> Path:
    """The folder of the candidate that a crash left, if it is the same one; else a new one. Others are rejected."""
    settings = _settings(asked)
    sha256 = read_manifest(live).onnx_sha256
    found = None
    for record in _unfinished(asked.model_folder):
        folder = asked.model_folder / CANDIDATES / record.id
        same = (record.parent, record.parent_sha256, record.snapshot) == (int(live.name), sha256, snapshot.fingerprint)
        if found is None and same and _read(folder / WORK / SETTINGS) in {settings, None}:
            found = folder
        else:
            _discard(folder, asked.who)
    if found is None:
        found = new_candidate(
            asked.model_folder,
            parent=int(live.name),
            parent_sha256=sha256,
            snapshot=snapshot.fingerprint,
            who=asked.who,
        )
    (found / WORK).mkdir(exist_ok=True)
    replace_durably(found / WORK / SETTINGS, settings)
    return found


def unfinished_snapshot(store: Path, model: str) -> Path | None:
    """The snapshot of a candidate that a crash left and that the next refinement should go on with; None: there is
    none.
    """
    for record in reversed(_unfinished(store / model)):
        content = _read(store / model / CANDIDATES / record.id / WORK / SETTINGS)
        if content is not None and record.parent == read_index(store / model).live:
            folder = Path(orjson.loads(content)["snapshot"])
            return folder if folder.exists() else None
    return None


def _unfinished(model_folder: Path) -> list[CandidateRecord]:
    return [record for record in list_candidates(model_folder) if record.state == "training"]


def _discard(folder: Path, who: str) -> None:
    change_state(folder, "rejected", who=who, reason="it was not finished, and another refinement was asked for")
    shutil.rmtree(folder / WORK, ignore_errors=True)


def _settings(asked: Refinement) -> bytes:
    """What a candidate is made with, beside its parent and its snapshot."""
    return orjson.dumps(
        {
            "snapshot": str(asked.snapshot.resolve()),
            "config": asdict(asked.config),
            "data": asked.task.fingerprint,
            "code": package_version("losscast"),
            "learner": None if asked.learner is None else asked.learner.identity,
        },
        option=orjson.OPT_SORT_KEYS,
    )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _train(asked: Refinement, live: Path, folder: Path, start: StartTrainer, progress: Progress) -> None:
    """The candidate and its placebo, unless they are there already. The manifest is written last.

    Another program's training has no placebo: nobody but that program could train on old images alone.
    """
    for target, snapshot, name in ((folder, asked.snapshot, ""), (folder / WORK / "placebo", None, "placebo: ")):
        if (target / "manifest.json").exists() or (name and asked.config.command):
            continue
        asked.check_fence()
        checkpoints = folder / WORK / ("placebo" if name else "training")
        checkpoints.mkdir(parents=True, exist_ok=True)
        told = _named(progress, name)
        made = fine_tune(live, asked.task, snapshot, asked.config, told, start(checkpoints), asked.learner)
        _write(target, made, asked, live)


def _named(progress: Progress, prefix: str) -> Progress:
    return lambda what, done, total: progress(f"{prefix}{what}", done, total)


def _write(target: Path, made: Refined, asked: Refinement, live: Path) -> None:
    manifest = made.manifest.model_copy(update={"evaluation": evaluate(made, asked.task)})
    known = known_samples(asked.model_folder, int(live.name))
    asked.check_fence()
    replace_durably(target / "model.onnx", made.onnx)
    replace_durably(target / "model_card.md", model_card(manifest, asked.task.card, made.network).encode())
    left_out = [LeftOut(sample_id=sample, reason=reason[:600]) for sample, reason in made.left_out]
    replace_durably(target / LEFT_OUT, b"".join(one.model_dump_json().encode() + b"\n" for one in left_out))
    replace_durably(target / LEARNED, "".join(f"{one}\n" for one in dict.fromkeys((*known, *made.learned))).encode())
    replace_durably(target / "manifest.json", manifest.to_json())


def known_samples(model_folder: Path, version: int) -> list[str]:
    """Ids of the samples that a version and its parents learned from; none for one that was trained without labels.

    A version that was published by hand from a candidate has no list of its own, and its candidate has one.
    """
    if listed := learned_by(model_folder / str(version)):
        return listed
    for record in reversed(list_candidates(model_folder)):
        if record.version == version:
            return learned_by(model_folder / CANDIDATES / record.id)
    return []


def _judge(asked: Refinement, live: Path, folder: Path, judge: Judge) -> RefinementResult:
    placebo = folder / WORK / "placebo"
    judged = judge(live, folder, placebo if placebo.exists() else None, read_candidate(folder))
    asked.check_fence()
    failed = "all gates passed" if judged.passed else "not all gates passed"
    record = change_state(folder, "gated", who=asked.who, reason=failed, passed=judged.passed)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return RefinementResult(folder, record, judged)
