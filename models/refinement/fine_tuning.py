"""From a live version and a snapshot to a candidate.

the parent's weights -> small steps on new labels and old images -> mixed with the parent's -> a new loss head -> the
loss map, thresholds and references of audit labels and the old calibration split -> ONNX.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contract.bundle import read_manifest
from models.contract.snapshot import SnapshotError, read_snapshot
from models.networks.regressors import Regressor
from models.pipeline import FINISHING, calibrate
from models.publishing.candidate import Candidate, make_candidate
from models.publishing.export import export_onnx
from models.refinement.config import RefinementConfig
from models.refinement.dataset import Labelled, load_split
from models.refinement.head import Predict, Taught, refit_head
from models.refinement.refined_task import as_examples, refined_task, rows_of, with_equal_chances
from models.refinement.trunk import Mixture, choose_mixture, predictions, tune
from models.refinement.weights import copied, mixed, parent_regressor
from models.tasks.protocol import Examples, RegressionTask
from models.training.config import Progress, TrainingConfig
from models.training.loop import Trainer
from models.training.recipes import recipe

FEWEST = 2  # labels that teach


@dataclass(frozen=True, slots=True)
class Refined(Candidate):
    """A candidate, and how it came about."""

    learned: tuple[str, ...] = ()  # sample ids
    left_out: tuple[tuple[str, str], ...] = ()  # sample id and reason
    calibrated_on: int = 0  # audit labels
    mixture: Mixture | None = None  # None: only the loss head was refitted
    honest_ratio: float | None = None  # of losses on images learned from to those held out


@dataclass(frozen=True, slots=True)
class _Labels:
    train: Labelled
    calibrate: Labelled
    fingerprint: str


def fine_tune(  # noqa: PLR0913, PLR0917 - what from, what with, how, and where to
    parent: Path,
    task: RegressionTask,
    snapshot: Path | None,
    config: RefinementConfig,
    progress: Progress,
    trainer: Trainer,
) -> Refined:
    """The candidate that the version in `parent` becomes by learning from `snapshot`.

    snapshot: None makes the placebo, by the same steps on old images alone. Raises RefinementError, SnapshotError,
    BundleError, and ValueError for losses that nothing can be learned from.
    """
    regressor = parent_regressor(parent, task)
    before = copied(regressor)
    labels = _Labels(*_no_labels(task), "") if snapshot is None else _labels(snapshot, task)
    refined = refined_task(task, labels.calibrate, labels.fingerprint)
    new = None if snapshot is None else as_examples(labels.train, refined.first_source + len(labels.calibrate))
    mixture, predict, ratio = None, None, None
    if config.arm != "head":
        tune(regressor, task, new, config, "fine-tune", progress, trainer)
        mixture = choose_mixture(regressor, before, refined, config, partial(progress, "mix"))
        if new is not None and mixture.share > 0:
            fold = _Folds.of(parent, task, new, config, mixture.share, progress, trainer)
            predict, ratio = _honest(regressor, fold, task, new, config)
    training = _training(task, config)
    taught = None if new is None else Taught(new, predict)
    trained = refit_head(regressor, task, taught, training, progress, trainer)
    progress(FINISHING, 0, 2)
    graph = calibrate(trained, refined)
    onnx = export_onnx(graph, task.preprocessing.canvas_shape)
    progress(FINISHING, 1, 2)
    candidate = make_candidate(graph, onnx, refined, training)
    progress(FINISHING, 2, 2)
    return _described(candidate, parent, labels, mixture, ratio)


def _labels(snapshot: Path, task: RegressionTask) -> _Labels:
    found, _ = read_snapshot(snapshot)
    train = load_split(snapshot, "train", task.task, task.preprocessing)
    audit = load_split(snapshot, "calibrate", task.task, task.preprocessing)
    if len(train) < FEWEST:
        why = (
            f"; {len(train.left_out)} were left out, the first one because {train.left_out[0][1]}"
            if train.left_out
            else ""
        )
        raise SnapshotError(f"{snapshot} has {len(train)} labels to learn from{why}: label more samples")
    return _Labels(train, with_equal_chances(audit, found.model), found.fingerprint)


def _no_labels(task: RegressionTask) -> tuple[Labelled, Labelled]:
    canvas, shape = task.preprocessing.canvas_shape, task.task.prediction_shape
    none = Labelled([], np.zeros((0, *canvas), np.uint8), np.zeros((0, *shape), np.float32), [])
    return none, none


def _training(task: RegressionTask, config: RefinementConfig) -> TrainingConfig:
    usual = recipe(task).config
    return replace(usual, seed=config.seed, head_epochs=max(1, round(config.head_effort * usual.head_epochs)))


@dataclass(frozen=True, slots=True)
class _Folds:
    """Networks that learned from all new labels but those of one fold."""

    networks: tuple[Regressor, ...]
    fold: NDArray[np.intp]  # [n] of each new label

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - as `fine_tune`
        cls,
        parent: Path,
        task: RegressionTask,
        new: Examples,
        config: RefinementConfig,
        share: float,
        progress: Progress,
        trainer: Trainer,
    ) -> "_Folds":
        fold = np.random.default_rng(config.seed).permutation(len(new)) % config.folds
        networks = []
        for number in range(config.folds):
            network = parent_regressor(parent, task)
            before = copied(network)
            tune(network, task, rows_of(new, fold != number), config, f"fold {number + 1}", progress, trainer)
            network.load_state_dict(mixed(before, copied(network), share))
            networks.append(network)
        return cls(tuple(networks), fold)

    def predictions(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """images: of all new labels, in their order -> predictions of the networks that have not learned from them."""
        found = [predictions(network, images) for network in self.networks]
        return np.stack(found)[self.fold, np.arange(len(images))]


def _honest(
    regressor: Regressor, folds: _Folds, task: RegressionTask, new: Examples, config: RefinementConfig
) -> tuple[Predict | None, float]:
    """How to predict the new labels for the head, and the ratio that decided it."""
    learned = task.true_loss(predictions(regressor, new.images), new.targets).mean()
    held_out = task.true_loss(folds.predictions(new.images), new.targets).mean()
    ratio = float(learned / held_out) if held_out > 0 else 1.0
    return (None if ratio >= config.honest_ratio else folds.predictions), ratio


def _described(
    candidate: Candidate, parent: Path, labels: _Labels, mixture: Mixture | None, ratio: float | None
) -> Refined:
    made = candidate.manifest.provenance
    sizes = {**made.split_sizes, "labels": len(labels.train), "audit labels": len(labels.calibrate)}
    provenance = made.model_copy(
        update={
            "parent_version": read_manifest(parent).version,
            "snapshot": labels.fingerprint or None,
            "split_sizes": sizes,
        }
    )
    return Refined(
        candidate.onnx,
        candidate.manifest.model_copy(update={"provenance": provenance, "model": read_manifest(parent).model}),
        f"{candidate.network}\n{_story(parent, labels, mixture)}",
        learned=tuple(row.sample_id for row in labels.train.rows),
        left_out=tuple(labels.train.left_out + labels.calibrate.left_out),
        calibrated_on=len(labels.calibrate),
        mixture=mixture,
        honest_ratio=ratio,
    )


def _story(parent: Path, labels: _Labels, mixture: Mixture | None) -> str:
    """A sentence for the model card."""
    of = f"version {parent.name}"
    what = f"{len(labels.train)} new labels and old images" if labels.fingerprint else "old images alone"
    if mixture is None:
        return f"The regressor is that of {of}; the loss head was fitted again."
    if mixture.share == 0:
        return f"The regressor is that of {of}: fine-tuning on {what} made it no better on the calibration split."
    return f"It was fine-tuned from {of} on {what}; its weights lie {mixture.share:g} of the way to those it learned."
