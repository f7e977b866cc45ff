"""Failure detection compared: `python -m benchmarks.detection --data DIR --trunks DIR --cache DIR`.

Every trunk in the folder (`trunk-<s>/weights.pt`, fold s held out) sees every split once; heads train on what it saw;
scores meet the test split; figures become detection.json, detection.md and two plots. What is in the cache is
not made again, so that a run can be cut short and taken up. `--prepare` stops before any figure of the test split.
"""

import sys
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
import torch
import typer

from benchmarks.detection.baselines import disagreement
from benchmarks.detection.corruptions import KINDS, STRENGTHS
from benchmarks.detection.features import Seen, Trunk, seen, together
from benchmarks.detection.record import Answers, assemble
from benchmarks.detection.report import plot_coverage, plot_shift, tables
from benchmarks.detection.rivals import (
    CORRUPTIBLE,
    COSTLY,
    ENSEMBLE,
    LEARNED,
    UNLEARNED,
    Scorer,
    Scores,
    Setting,
    costly,
    kept,
    learned,
    unlearned,
)
from models.tasks.pose import Pose
from models.training.augmentation import mirror_order

ROOT = Path(__file__).resolve().parents[2]
RESULTS, DOCS = ROOT / "benchmarks" / "detection" / "results", ROOT / "docs"
TRAINING = ("trunk", "head", "trunk-mirrored", "head-mirrored")
REDRAWS, TINY_REDRAWS = 1000, 20
TINY_IMAGES, TINY_EPOCHS = 12, 0.1


def main(  # noqa: PLR0913, PLR0917 - the options of a command
    data: Annotated[Path, typer.Option(help="Folder of the pose photographs.")],
    trunks: Annotated[Path, typer.Option(help="Folder with trunk-<s>/weights.pt.")],
    cache: Annotated[Path, typer.Option(help="Folder for features and scores; gigabytes.")],
    seeds: Annotated[int, typer.Option(min=1, help="Heads of each kind on each trunk.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder for detection.json and detection.md.")] = RESULTS,
    pictures: Annotated[Path, typer.Option(help="Folder for the plots.")] = DOCS,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    prepare: Annotated[bool, typer.Option(help="Fill the cache, look at nothing.")] = False,  # noqa: FBT002 - a flag
    tiny: Annotated[bool, typer.Option(help="Few images, to try the code.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Trains what is not in the cache, measures, and writes the results."""
    if tiny and (out == RESULTS or pictures == DOCS):
        raise SystemExit("a tiny run is no result: give --out and --pictures other places")
    torch.set_num_threads(threads)
    paths = {int(path.parent.name.removeprefix("trunk-")): path for path in sorted(trunks.glob("trunk-*/weights.pt"))}
    if not paths:
        raise SystemExit(f"{trunks} has no trunk-<s>/weights.pt")
    answers = []
    for number, path in paths.items():
        trunk = Trunk.load(path, number, Pose(data, fold=number))
        answers.append(answer(trunk, cache, seeds, tiny=tiny))
        say(f"trunk {number} is done")
    if prepare:
        return
    record = assemble(_with_ensemble(answers), TINY_REDRAWS if tiny else REDRAWS)
    out.mkdir(parents=True, exist_ok=True)
    pictures.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (out / "detection.json").write_bytes(orjson.dumps(record, option=options))
    (out / "detection.md").write_text(tables(record))
    plot_coverage(record, pictures / "detection-coverage.png")
    plot_shift(record, pictures / "detection-shift.png")
    print(tables(record))


def answer(trunk: Trunk, cache: Path, seeds: int, *, tiny: bool) -> Answers:
    """What every score says of one trunk's answers."""
    limit = TINY_IMAGES if tiny else None

    def look(split: str) -> Seen:
        return seen(trunk, split, cache, say, limit)

    training = together([look(split) for split in TRAINING])
    held_out = look("head")
    setting = Setting(
        training, held_out, trunk.network.map_channels, trunk.task.task.skeleton, TINY_EPOCHS if tiny else 1.0
    )
    corrupted = {
        f"{kind}|{strength}".replace("|", "-"): look(f"test-{kind}-{strength}")
        for kind in KINDS
        for strength in STRENGTHS
    }
    clean = {"calibration": look("calibration"), "test": look("test")}
    scores: dict[str, list[dict[str, Scores]]] = {}
    for seed, name in product(range(seeds), (*LEARNED, *UNLEARNED)):  # a run that is cut short has whole seeds
        if seed and name in UNLEARNED:
            continue
        splits = clean | (corrupted if name in CORRUPTIBLE else {})
        path = cache / trunk.mark / "scores" / f"{name.replace(' ', '_')}-{seed}.npz"

        def make(name: str = name, seed: int = seed, splits: dict[str, Seen] = splits) -> dict[str, Scores]:
            say(f"trunk {trunk.number}: {name}, seed {seed}")
            scorer: Scorer = learned(name, setting, seed) if name in LEARNED else unlearned(name, setting)
            return {split: scorer(one) for split, one in splits.items()}

        scores.setdefault(name, []).append(dict(kept(path, make)))
    order = mirror_order(trunk.task.task.names)
    for name in COSTLY:
        several = costly(name, clean["test"], look("test-mirrored"), order, trunk.task.preprocessing.width)
        scores[name] = [{"test": several}]
    return Answers(
        trunk.number,
        scores,
        {split: one.keypoint_losses.double().numpy() for split, one in (clean | corrupted).items()},
        clean["test"].predictions.double().numpy(),
        trunk.task.loss.failure_level,
        {"head": float(held_out.losses.mean()), "trunk": float(look("trunk").losses.mean())},
    )


def _with_ensemble(answers: list[Answers]) -> list[Answers]:
    """The trunks as an ensemble: how far their predictions lie apart, for the errors of each of them."""
    if len(answers) > 1:
        apart = disagreement(np.stack([one.predictions for one in answers]))
        for one in answers:
            one.scores[ENSEMBLE] = [{"test": Scores(apart)}]
    return answers


def say(what: str) -> None:
    """Progress, to where it does not mix with the tables."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
