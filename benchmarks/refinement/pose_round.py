"""One whole round of refinement of pose, with true labels of photographs that were withheld from the start.

    python -m benchmarks.refinement.pose_round --data lspet --work /tmp/pose-round

A model is trained by the recipe of the shipped one, but without a third of the training photographs. These are the
stream: the model flags some of them at the operating point `miss_rate`, chance draws others for the audit lane, and
both are labelled by the data set's own annotations. `refine` makes a candidate and its placebo, and the gates judge.
The figures are of the test split, which nothing has chosen from, in torso lengths.

An hour on two processors. What was finished is kept in the folder of --work, and a run that was cut off goes on there.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from benchmarks.refinement.oracle import label_stream, write_snapshot
from benchmarks.refinement.rounds import RESULTS, table, turn
from benchmarks.refinement.withheld_pose import WithheldPose
from models.contract.snapshot import Row, read_snapshot
from models.pipeline import train_bundle
from models.refinement.config import RefinementConfig
from models.refinement.cycle import Refinement, live_version
from models.tasks.protocol import SPLITS
from models.training.loop import Trainer
from models.training.recipes import recipe

MODEL = "pose"


@dataclass(frozen=True, slots=True)
class Settings:
    audits: int = 600  # of the withheld photographs
    flagged: int = 2000  # at most; more than there are
    operating_point: str = "miss_rate"
    effort: float = 1.0  # of the refinement
    training: float = 1.0  # effort of the training before it
    arm: str = "all"
    seed: int = 0


def main() -> None:
    settings, data, work = _asked()
    task = WithheldPose(data)
    store = work / "bundles"
    if not (store / MODEL / "model.json").exists():
        train_bundle(task, store, recipe(task).config.scaled(settings.training), _say, _start(work / "training", task))
    live = live_version(store, MODEL)
    snapshot, rows = _snapshot(work / "snapshot", task, live, settings)
    teaching = sum(row.split == "train" for row in rows)
    config = RefinementConfig(seed=settings.seed, arm=settings.arm)  # type: ignore[arg-type]  # checked by argparse
    asked = Refinement(store, MODEL, task, snapshot, config.for_labels(teaching, settings.effort), "benchmark")
    measured = {"old": task.examples("test")}
    outcome, record = turn(asked, lambda folder: _start(folder, task), rows, 1, measured)
    record["photographs"] = {split: len(task.sources(split)) for split in SPLITS} | {"withheld": len(task.withheld())}
    content = {"settings": asdict(settings), "rounds": [record]}
    (RESULTS / "pose_round.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    print(table([record]), *record["gates"], outcome.folder, sep="\n")


def _snapshot(folder: Path, task: WithheldPose, live: Path, settings: Settings) -> tuple[Path, list[Row]]:
    """The labels of the withheld photographs, made once."""
    if not (folder / "snapshot.json").exists():
        rows, images = label_stream(
            task.withheld(), live, 0, settings.flagged, settings.audits, settings.operating_point
        )
        write_snapshot(folder, live, rows, images)
    return folder, list(read_snapshot(folder)[1])


def _start(folder: Path, task: WithheldPose) -> Trainer:
    return Trainer.start(precision=recipe(task).precision, folder=folder)


def _say(what: str, done: int, total: int) -> None:
    if done % 50 == 0:
        print(what, done, total, flush=True)


def _asked() -> tuple[Settings, Path, Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with labels.json and crops-*.tar")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the bundle store and checkpoints")
    for name, value in asdict(Settings()).items():
        choices = ("head", "decoder", "all") if name == "arm" else None
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, choices=choices)
    given = vars(parser.parse_args())
    return Settings(**{name: given[name] for name in asdict(Settings())}), given["data"], given["work"]


if __name__ == "__main__":
    main()
