"""What `losscast refine` does with its options: it finds the snapshot, runs the cycle and says what came of it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from models.contract.fence import largest_token
from models.contract.snapshot import SnapshotError, read_snapshot
from models.refinement.config import Arm, RefinementConfig, RefinementError
from models.refinement.cycle import (
    CANDIDATES,
    LEFT_OUT,
    Refinement,
    RefinementResult,
    live_version,
    refine,
    unfinished_snapshot,
)
from models.refinement.judging import gates
from models.refinement.service_api import ServiceApi
from models.refinement.service_lock import ServiceLock, locked_by_service
from models.tasks.protocol import RegressionTask
from models.training.config import Progress
from models.training.loop import Trainer
from models.training.recipes import recipe

SNAPSHOTS = Path("snapshots")  # new ones are put there, by model


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of the command, with the live version and the snapshot found."""

    model: str
    store: Path
    live: Path
    snapshot: Path
    config: RefinementConfig
    who: str


def ask(  # noqa: PLR0913, PLR0917 - one for each option
    model: str,
    store: Path,
    snapshot: Path | None,
    url: str | None,
    who: str,
    effort: float,
    arm: Arm,
    seed: int,
    trainer: str,
) -> Wish:
    """Raises BundleError without a live version, and SnapshotError without a snapshot."""
    live = live_version(store, model)
    folder = snapshot or unfinished_snapshot(store, model) or take_snapshot(model, url)
    found, _ = read_snapshot(folder)
    config = RefinementConfig(seed=seed, arm=arm, command=trainer).for_labels(found.splits.get("train", 0), effort)
    return Wish(model, store, live, folder, config, who)


def take_snapshot(model: str, url: str | None) -> Path:
    """Runs `losscast snapshot` in a process of its own, because this side does not know the service.

    A run that was cut off left a folder `<name>.part`; the next one takes the same name and goes on. Raises
    SnapshotError when the command fails; it has said why.
    """
    folder = SNAPSHOTS / model
    cut_off = sorted(folder.glob("*.part"))
    out = cut_off[-1].with_suffix("") if cut_off else folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    whole = sorted(path.parent for path in folder.glob("*/snapshot.json"))
    command = [sys.executable, "-m", "losscast", "snapshot", model, "--out", str(out)]
    command += ["--previous", str(whole[-1])] if whole else []
    command += ["--url", url] if url else []
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own command
        raise SnapshotError(
            f"no snapshot of {model} could be taken: give a folder with --snapshot, or mend what it says"
        )
    return out


@contextmanager
def alone(model: str, store: Path, snapshot: Path | None, url: str | None) -> Iterator[ServiceLock | None]:
    """Holds the service's lock, so that one refinement of the model runs over all hosts. Raises Busy, ServiceAway.

    A refinement that was given its snapshot needs no service: None, and the lock of the store is enough.
    """
    if snapshot is not None:
        yield None
        return
    with ServiceApi(url) as api, locked_by_service(api, model, largest_token(store / model / CANDIDATES)) as lock:
        yield lock


def refine_model(
    wish: Wish, task: RegressionTask, accelerator: str, progress: Progress, lock: ServiceLock | None = None
) -> RefinementResult:
    """Runs the cycle with the gates. Raises as `refine`, and RefinementError when the service's lock is lost."""
    if wish.model != task.task.name:
        raise RefinementError(
            f"{wish.live} is of the task {task.task.name!r}: only a model of that name can be refined"
        )
    token = None if lock is None else lock.token
    asked = Refinement(wish.store, wish.model, task, wish.snapshot, wish.config, wish.who, token)
    precision = recipe(task).precision

    def start(folder: Path) -> Trainer:
        return Trainer.start(accelerator, "1", precision, folder)

    def checked(what: str, done: int, total: int) -> None:
        if lock is not None:
            lock.check()
        progress(what, done, total)

    return refine(asked, start, gates(asked, checked), checked)


def print_outcome(outcome: RefinementResult) -> None:
    """Labels that were left out, one line for each gate, and what to do next."""
    console = Console(soft_wrap=True, highlight=False)
    if outcome.left_out:
        console.print(
            f"{outcome.left_out} labels are left out; {outcome.folder / LEFT_OUT} has the reasons", markup=False
        )
    for line in outcome.judged.lines:
        console.print(line, markup=False)
    record = outcome.record
    if record.passed:
        console.print(
            f"{outcome.folder} passed. Make it live: losscast promote {record.model} {record.id} --reason ...",
            markup=False,
        )
    else:
        console.print(
            f"{outcome.folder} did not pass: version {record.parent} stays live. Its report says why; more labels may "
            "help.",
            markup=False,
        )
