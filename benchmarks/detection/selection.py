"""Which keypoint head ships, by cross-validation inside `train`: `python -m benchmarks.detection.selection ...`.

The images that the trunk held out are divided into five folds; each is scored by a head that learned from the
other four and, unless the row says otherwise, from the images that the trunk itself learned from and from mirror
images; then both scores of the verdict are put together in several ways, on shifted images. No
image of the calibration and the test split is looked at. Rule, written down before: the highest mean 1 - nAURC,
and of rows within .005 of it the one with the fewest parts. Writes selection.json and selection.md.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import torch
import typer
from numpy.typing import NDArray

from benchmarks.detection.__main__ import RESULTS, TINY_IMAGES, TRAINING, say
from benchmarks.detection.features import Seen, Trunk, rows, seen, together
from benchmarks.detection.rivals import UNLEARNED, Scores, Setting, embeddings, keypoint_head, unlearned
from benchmarks.detection.shift import RULES
from models.calibration.ood import fit_gaussian
from models.evaluation import metrics
from models.networks.heatmap_features import EXPECTED
from models.networks.keypoint_head import USUAL_PARTS, KeypointLossHead, Part
from models.tasks.pose import Pose
from models.training.keypoint_head import KeypointTraining, score_readings

FOLDS = 5
SHIPPED = "as shipped"
TITLES = {
    "one_minus_naurc": "1 - nAURC",
    "failure_auroc": "AUROC, loss > .5",
    "rank_correlation": "rank correlation",
    "keypoint_auroc": "AUROC of keypoints",
}
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One choice: what the head learns from, what it reads, how it is built, how it learns."""

    splits: tuple[str, ...] = TRAINING
    head: tuple[tuple[str, Any], ...] = ()  # what differs from the usual `KeypointHeadConfig`
    training: KeypointTraining = field(default_factory=KeypointTraining)
    blank: tuple[str, int] | None = None  # columns of a part, from this one on, that say nothing


def reading(*parts: Part) -> Row:
    return Row(head=(("parts", parts),))


def learning(**changes: Any) -> Row:
    return Row(training=replace(KeypointTraining(), **changes))


ROWS: Mapping[str, Row] = {
    SHIPPED: Row(),
    "as shipped, another seed": learning(seed=1),
    "with an augmented view of every image": Row((*TRAINING, "head-augmented", "trunk-augmented")),
    "held-out images alone": Row(("head",)),
    "held-out images and their mirror images": Row(("head", "head-mirrored")),
    "without mirror images": Row(("head", "trunk")),
    "without the heatmap's expected loss": Row(blank=("shape", EXPECTED)),
    "with pooled maps": reading(*USUAL_PARTS, "context"),
    "without attention": Row(head=(("blocks", 0),)),
    "LearningLoss++": learning(objective="learning_loss_pp"),
    "weighted LearningLoss++, keypoints alone": learning(over="keypoints"),
    "weighted LearningLoss++, images alone": learning(over="images"),
    "listwise": learning(objective="listwise"),
    "log-loss regression": learning(objective="log_loss"),
    "Gamma likelihood": learning(objective="gamma"),
    "cross-entropy": learning(objective="cross_entropy"),
}


def main(  # noqa: PLR0913, PLR0917 - the options of a command
    data: Annotated[Path, typer.Option(help="Folder of the pose photographs.")],
    trunk: Annotated[Path, typer.Option(help="weights.pt of a trunk.")],
    cache: Annotated[Path, typer.Option(help="Folder for features, and for rows that are done.")],
    fold: Annotated[int, typer.Option(help="The fold that this trunk held out.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for selection.json and selection.md.")] = RESULTS,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    tiny: Annotated[bool, typer.Option(help="Few images, to try the code.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Cross-validates every row, prints the table and writes it. A run that was cut short goes on where it was."""
    if tiny and out == RESULTS:
        raise SystemExit("a tiny run is no result: give --out another place")
    torch.set_num_threads(threads)
    one = Trunk.load(trunk, fold, Pose(data, fold=fold))
    splits = dict.fromkeys(split for row in ROWS.values() for split in row.splits)
    parts = {split: seen(one, split, cache, say, TINY_IMAGES if tiny else None) for split in splits}
    record = {name: _unlearned(name, one, parts["head"]) for name in UNLEARNED[:4]}
    for name, row in ROWS.items():
        record[name] = _kept(cache / one.mark / "selection", row, one, parts)
        say(f"{name}: {record[name]}")
    shifted = seen(one, "head-shifted", cache, say, TINY_IMAGES if tiny else None)
    whole = {"heads": record, "rules": _rules(one, parts, shifted)}
    out.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (out / "selection.json").write_bytes(orjson.dumps(whole, option=options))
    (out / "selection.md").write_text(tables(whole))
    print(tables(whole))


def _kept(folder: Path, row: Row, trunk: Trunk, parts: Mapping[str, Seen]) -> Figures:
    """Figures of a row, from a file named by all that the row says, or measured and put there."""
    path = folder / f"{hashlib.sha256(repr(row).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(_cross_validated(trunk, row, parts)))
    found = orjson.loads(path.read_bytes())
    return {key: float("nan") if one is None else one for key, one in found.items()}  # JSON has no NaN


def tables(record: dict[str, dict[str, Figures]]) -> str:
    """Markdown: the heads, then the ways to rank by both scores."""
    lines = [
        *_table("head", record["heads"], TITLES),
        "",
        "AUROC of failures among held-out images shifted beyond the training's own changes, by both scores:",
        "",
        *_table("order", record["rules"], {"shifted": "shifted images", "mixed": "with as many unchanged ones"}),
        "",
    ]
    return "\n".join(lines)


def _table(first: str, rows_of: Mapping[str, Figures], titles: Mapping[str, str]) -> Iterator[str]:
    yield f"| {first} | {' | '.join(titles.values())} |"
    yield "|---|" + "---:|" * len(titles)
    for name, row in rows_of.items():
        yield f"| {name} | {' | '.join(f'{row[key]:.3f}' for key in titles)} |"


def _rules(trunk: Trunk, parts: Mapping[str, Seen], shifted: Seen) -> dict[str, Figures]:
    """Of each rule the mean over folds; unchanged images of a fold are the calibration split of its shifted ones."""
    setting = Setting(parts["head"], parts["head"], trunk.network.map_channels, trunk.task.task.skeleton)
    found: dict[str, list[Figures]] = {name: [] for name in RULES}
    for chosen in _folds(parts["head"]):
        others = np.setdiff1d(np.arange(len(parts["head"].losses)), chosen)
        head = _fitted(trunk, Row(), parts, others)
        gaussian = fit_gaussian(embeddings(rows(parts["head"], others), setting))
        near, far = rows(parts["head"], chosen), rows(shifted, chosen)
        known, new = (
            (
                score_readings(head, one.readings)[1].double().numpy(),
                gaussian.distance(embeddings(one, setting)).astype(np.float64),
            )
            for one in (near, far)
        )
        both = tuple(np.concatenate(pair) for pair in zip(new, known, strict=True))
        failed = far.losses > Pose.loss.failure_level
        any_failed = np.concatenate([failed, near.losses > Pose.loss.failure_level])
        for name, rule in RULES.items():
            found[name].append(
                {
                    "shifted": metrics.auroc(rule(new, known), failed),
                    "mixed": metrics.auroc(rule((both[0], both[1]), known), any_failed),
                }
            )
    return {name: _mean(figures) for name, figures in found.items()}


def _unlearned(name: str, trunk: Trunk, held_out: Seen) -> Figures:
    setting = Setting(held_out, held_out, trunk.network.map_channels, trunk.task.task.skeleton)
    scorer = unlearned(name, setting)
    return _mean([_figures(scorer(rows(held_out, chosen)), rows(held_out, chosen)) for chosen in _folds(held_out)])


def _cross_validated(trunk: Trunk, row: Row, parts: Mapping[str, Seen]) -> Figures:
    """Mean over folds of the figures of the images left out, which no other view of them gives away either."""
    held_out, found = parts["head"], []
    for chosen in _folds(held_out):
        others = np.setdiff1d(np.arange(len(held_out.losses)), chosen)
        fitted = _fitted(trunk, row, parts, others)
        left = _blanked(rows(held_out, chosen), row)
        keypoints, images = score_readings(fitted, left.readings)
        found.append(_figures(Scores(images.double().numpy(), keypoints.double().numpy()), left))
    return _mean(found)


def _fitted(trunk: Trunk, row: Row, parts: Mapping[str, Seen], others: NDArray[np.int64]) -> KeypointLossHead:
    """A head that learned without the images that are left out; others: those of the held-out images it may see."""
    learn = [rows(parts[split], others) if split.startswith("head") else parts[split] for split in row.splits]
    skeleton = trunk.task.task.skeleton
    return keypoint_head(_blanked(together(learn), row), skeleton, row.training, **dict(row.head))


def _blanked(one: Seen, row: Row) -> Seen:
    if row.blank is None:
        return one
    part, first = row.blank
    columns = getattr(one.readings, part).clone()
    columns[..., first:] = 0
    return one._replace(readings=one.readings._replace(**{part: columns}))


def _folds(held_out: Seen) -> list[NDArray[np.int64]]:
    return np.array_split(np.random.default_rng(0).permutation(len(held_out.losses)), FOLDS)


def _figures(scores: Scores, left: Seen) -> Figures:
    losses, of_keypoints = left.losses, left.keypoint_losses.double().numpy()
    there = ~np.isnan(of_keypoints)
    if scores.keypoints is None:
        raise ValueError("cross-validation compares heads that score keypoints")
    return {
        "one_minus_naurc": 1 - metrics.normalised_aurc(scores.images, losses),
        "failure_auroc": metrics.auroc(scores.images, losses > Pose.loss.failure_level),
        "rank_correlation": metrics.rank_correlation(scores.images, losses),
        "keypoint_auroc": metrics.auroc(scores.keypoints[there], of_keypoints[there] > Pose.loss.failure_level),
    }


def _mean(found: list[Figures]) -> Figures:
    return {key: float(np.nanmean([one[key] for one in found])) for key in found[0]}


if __name__ == "__main__":
    typer.run(main)
