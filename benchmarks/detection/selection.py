"""Which keypoint head ships, by cross-validation inside `train`: `python -m benchmarks.detection.selection ...`.

The images that the trunk held out are divided into five folds; each is scored by a head that learned from the
other four and, where the row says so, from the images that the trunk itself learned from and from mirror images. No
image of the calibration and the test split is looked at. Rule, written down before: the highest mean 1 - nAURC,
and of rows within .005 of it the one with the fewest parts. Writes selection.json and selection.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import torch
import typer

from benchmarks.detection.__main__ import RESULTS, TINY_IMAGES, say
from benchmarks.detection.features import Seen, Trunk, rows, seen, together
from benchmarks.detection.rivals import Scorer, Scores, Setting, keypoint_head, unlearned
from models import evaluation
from models.keypoint_head import PARTS, USUAL_PARTS, Part
from models.keypoint_training import KeypointTraining, score_readings
from models.tasks.pose import Pose

FOLDS = 5
ALL = ("trunk", "head", "trunk-mirrored", "head-mirrored")
SHIPPED = "as shipped"
TITLES = {
    "one_minus_naurc": "1 - nAURC",
    "failure_auroc": "AUROC, loss > .5",
    "rank_correlation": "rank correlation",
    "keypoint_auroc": "AUROC of keypoints",
}
Figures = dict[str, float]


def without(part: Part) -> tuple[Part, ...]:
    return tuple(one for one in USUAL_PARTS if one != part)


SHAPES: Mapping[str, dict[str, Any]] = {
    "without attention": {"blocks": 0},
    "two blocks of attention": {"blocks": 2},
    "twice the width": {"width": 128},
}
# row -> what differs from the shipped head: images, parts, training
IMAGES: Mapping[str, tuple[str, ...]] = {
    "held-out images alone": ("head",),
    "held-out images and their mirror images": ("head", "head-mirrored"),
    "held-out images and those of the trunk": ("head", "trunk"),
}
READS: Mapping[str, tuple[Part, ...]] = {
    **{f"without {part}": without(part) for part in USUAL_PARTS},
    "with context": (*USUAL_PARTS, "context"),
    "with pose": (*USUAL_PARTS, "pose"),
    "all parts": PARTS,
}
LEARNS: Mapping[str, dict[str, Any]] = {
    "LearningLoss++": {"objective": "learning_loss_pp"},
    "weighted LearningLoss++, keypoints alone": {"over": "keypoints"},
    "weighted LearningLoss++, images alone": {"over": "images"},
    "listwise": {"objective": "listwise"},
    "Learning Loss, images alone": {"objective": "learning_loss", "over": "images"},
    "log-loss regression": {"objective": "log_loss"},
    "Gamma likelihood": {"objective": "gamma"},
    "cross-entropy": {"objective": "cross_entropy"},
    "3 epochs": {"epochs": 3},
    "10 epochs": {"epochs": 10},
}


def main(  # noqa: PLR0913, PLR0917 - the options of a command
    data: Annotated[Path, typer.Option(help="Folder of the pose photographs.")],
    trunk: Annotated[Path, typer.Option(help="weights.pt of a trunk.")],
    cache: Annotated[Path, typer.Option(help="Folder for features.")],
    fold: Annotated[int, typer.Option(help="The fold that this trunk held out.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for selection.json and selection.md.")] = RESULTS,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    tiny: Annotated[bool, typer.Option(help="Few images, to try the code.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Cross-validates every row, prints the table and writes it."""
    if tiny and out == RESULTS:
        raise SystemExit("a tiny run is no result: give --out another place")
    torch.set_num_threads(threads)
    one = Trunk.load(trunk, fold, Pose(data, fold=fold))
    parts = {split: seen(one, split, cache, say, TINY_IMAGES if tiny else None) for split in ALL}
    record: dict[str, Figures] = {"heatmap peak, mean": _peak(one, parts["head"])}
    plan: dict[str, tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
        SHIPPED: (ALL, {}, {}),
        **{name: (splits, {}, {}) for name, splits in IMAGES.items()},
        **{name: (ALL, {"parts": reads}, {}) for name, reads in READS.items()},
        **{name: (ALL, shape, {}) for name, shape in SHAPES.items()},
        **{name: (ALL, {}, learns) for name, learns in LEARNS.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, (splits, head, training) in plan.items():
        record[name] = _cross_validated(one, {split: parts[split] for split in splits}, head, training)
        say(f"{name}: {record[name]}")
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        (out / "selection.json").write_bytes(orjson.dumps(record, option=options))
        (out / "selection.md").write_text(table(record))
    print(table(record))


def table(record: dict[str, Figures]) -> str:
    """Markdown."""
    lines = [f"| head | {' | '.join(TITLES.values())} |", "|---|" + "---:|" * len(TITLES)]
    lines += [f"| {name} | {' | '.join(f'{row[key]:.3f}' for key in TITLES)} |" for name, row in record.items()]
    return "\n".join([*lines, ""])


def _peak(trunk: Trunk, held_out: Seen) -> Figures:
    setting = Setting(held_out, held_out, trunk.network.map_channels, trunk.task.task.skeleton)
    scorer: Scorer = unlearned("heatmap peak, mean", setting)
    return _mean([_figures(scorer(rows(held_out, chosen)), rows(held_out, chosen)) for chosen in _folds(held_out)])


def _cross_validated(trunk: Trunk, parts: dict[str, Seen], head: dict[str, Any], training: dict[str, Any]) -> Figures:
    """Mean over folds of the figures of the images left out, which no mirror image gives away either."""
    held_out, found = parts["head"], []
    for chosen in _folds(held_out):
        others = np.setdiff1d(np.arange(len(held_out.losses)), chosen)
        learn = [rows(one, others) if split.startswith("head") else one for split, one in parts.items()]
        fitted = keypoint_head(together(learn), trunk.task.task.skeleton, KeypointTraining(**training), **head)
        left = rows(held_out, chosen)
        keypoints, images = score_readings(fitted, left.readings)
        found.append(_figures(Scores(images.double().numpy(), keypoints.double().numpy()), left))
    return _mean(found)


def _folds(held_out: Seen) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    return np.array_split(np.random.default_rng(0).permutation(len(held_out.losses)), FOLDS)


def _figures(scores: Scores, left: Seen) -> Figures:
    losses, of_keypoints = left.losses, left.keypoint_losses.double().numpy()
    there = ~np.isnan(of_keypoints)
    if scores.keypoints is None:
        raise ValueError("cross-validation compares heads that score keypoints")
    return {
        "one_minus_naurc": 1 - evaluation.normalised_aurc(scores.images, losses),
        "failure_auroc": evaluation.auroc(scores.images, losses > Pose.loss.failure_level),
        "rank_correlation": evaluation.rank_correlation(scores.images, losses),
        "keypoint_auroc": evaluation.auroc(scores.keypoints[there], of_keypoints[there] > Pose.loss.failure_level),
    }


def _mean(found: list[Figures]) -> Figures:
    return {key: float(np.nanmean([one[key] for one in found])) for key in found[0]}


if __name__ == "__main__":
    typer.run(main)
