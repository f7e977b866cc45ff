"""From a live version and a snapshot to a candidate.

the parent's weights -> small steps on new labels and old images -> mixed with the parent's -> a new loss head -> the
loss map, thresholds and references of audit labels and the old calibration split -> ONNX.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contract.bundle import read_manifest
from models.contract.snapshot import SnapshotError, read_snapshot
from models.networks.regressors import Regressor
from models.pipeline import FINISHING, calibrate
from models.publishing.candidate import Candidate, candidate_of_graph, make_candidate
from models.publishing.export import export_onnx
from models.refinement.config import RefinementConfig, RefinementError
from models.refinement.dataset import Labelled, load_split
from models.refinement.head import Predict, Taught, refit_head
from models.refinement.learner import Learner, RecipeLearner
from models.refinement.outside import check_graph, load_weights, train_outside
from models.refinement.recalibration import recent_budget, recent_images
from models.refinement.refined_task import RefinedTask, as_examples, refined_task, rows_of, with_equal_chances
from models.refinement.trunk import Mixture, choose_mixture, predictions
from models.refinement.weights import Weights, copied, mixed
from models.tasks.protocol import Examples, RegressionTask
from models.training.config import Progress, TrainingConfig
from models.training.loop import Trainer

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
    recent: NDArray[np.uint8]  # [n, h, w, c] of the audit lane, for the flag budget
    fingerprint: str


def fine_tune(  # noqa: PLR0913, PLR0917 - what from, what with, how, and where to
    parent: Path,
    task: RegressionTask,
    snapshot: Path | None,
    config: RefinementConfig,
    progress: Progress,
    trainer: Trainer,
    learner: Learner | None = None,
) -> Refined:
    """The candidate that the version in `parent` becomes by learning from `snapshot`.

    snapshot: None makes the placebo, by the same steps on old images alone. learner: None: by the recipe of the task.
    Raises RefinementError, SnapshotError,
    BundleError, and ValueError for losses that nothing can be learned from.
    """
    labels = _no_labels(task) if snapshot is None else _labels(snapshot, task)
    lesson = _Lesson(parent, task, labels, config, progress, trainer, learner or RecipeLearner(task))
    if config.command and snapshot is not None:
        return _learn_outside(lesson, snapshot)
    regressor = lesson.learner.parent(parent)
    if config.arm == "head":
        return _finish(lesson, regressor, lesson.new)
    before = copied(regressor)
    lesson.learner.learn(regressor, lesson.new, config, "fine-tune", progress, trainer)
    return _mix(lesson, regressor, before)


@dataclass(frozen=True)
class _Lesson:
    """What a candidate is made from."""

    parent: Path
    task: RegressionTask
    labels: _Labels
    config: RefinementConfig
    progress: Progress
    trainer: Trainer
    learner: Learner

    @cached_property
    def refined(self) -> RefinedTask:
        return refined_task(self.task, self.labels.calibrate, self.labels.fingerprint)

    @cached_property
    def new(self) -> Examples | None:
        """The labels that teach; None for the placebo."""
        if not self.labels.fingerprint:
            return None
        return as_examples(self.labels.train, self.refined.first_source + len(self.labels.calibrate))

    @property
    def training(self) -> TrainingConfig:
        """Of the loss head."""
        usual = self.learner.training
        epochs = max(1, round(self.config.head_effort * usual.head_epochs))
        return replace(usual, seed=self.config.seed, head_epochs=epochs)


def _mix(lesson: _Lesson, regressor: Regressor, before: Weights) -> Refined:
    """The candidate of a regressor that has learned. before: the weights of its parent."""
    config, new, progress = lesson.config, lesson.new, lesson.progress
    mixture = choose_mixture(regressor, before, lesson.refined, config, partial(progress, "mix"))
    if new is None or mixture.share == 0:
        return _finish(lesson, regressor, new, mixture=mixture)
    folds = _Folds.of(lesson, new, mixture.share)
    predict, ratio = _honest(regressor, folds, lesson.task, new, config)
    return _finish(lesson, regressor, new, predict, mixture, ratio)


def _learn_outside(lesson: _Lesson, snapshot: Path) -> Refined:
    """The candidate of another program. Its labels do not teach the head: no fold of them was held out."""
    if lesson.trainer.folder is None:
        raise RefinementError("another program needs a folder to leave its file in")
    left = train_outside(lesson.config.command, snapshot, lesson.parent, lesson.trainer.folder / "outside")
    if left.graph is not None:
        check_graph(left.graph, read_manifest(lesson.parent))
        made = candidate_of_graph(left.graph, "A graph that another program made.", lesson.refined, lesson.training)
        return _described(made, lesson, None, None)
    regressor = lesson.learner.parent(lesson.parent)
    before = copied(regressor)
    load_weights(regressor, left.weights or {})
    mixture = choose_mixture(regressor, before, lesson.refined, lesson.config, partial(lesson.progress, "mix"))
    return _finish(lesson, regressor, lesson.new if mixture.share == 0 else None, mixture=mixture)


def _finish(  # noqa: PLR0913, PLR0917 - what was decided on the way
    lesson: _Lesson,
    regressor: Regressor,
    taught: Examples | None,
    predict: Predict | None = None,
    mixture: Mixture | None = None,
    ratio: float | None = None,
) -> Refined:
    """The loss head, the calibration and the export. taught: the new labels that the head learns from."""
    task, progress = lesson.task, lesson.progress
    examples = None if taught is None else Taught(taught, predict)
    trained = refit_head(regressor, task, examples, lesson.training, progress, lesson.trainer)
    progress(FINISHING, 0, 2)
    graph = calibrate(trained, lesson.refined)
    onnx = export_onnx(graph, task.preprocessing.canvas_shape)
    progress(FINISHING, 1, 2)
    candidate = make_candidate(graph, onnx, lesson.refined, lesson.training)
    progress(FINISHING, 2, 2)
    return _described(candidate, lesson, mixture, ratio)


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
    recent = recent_images(snapshot, audit, task, found.model)
    return _Labels(train, with_equal_chances(audit, found.model), recent, found.fingerprint)


def _no_labels(task: RegressionTask) -> _Labels:
    images = np.zeros((0, *task.preprocessing.canvas_shape), np.uint8)
    none = Labelled([], images, np.zeros((0, *task.task.prediction_shape), np.float32), [])
    return _Labels(none, none, images, "")


@dataclass(frozen=True, slots=True)
class _Folds:
    """Networks that learned from all new labels but those of one fold."""

    networks: tuple[Regressor, ...]
    fold: NDArray[np.intp]  # [n] of each new label

    @classmethod
    def of(cls, lesson: _Lesson, new: Examples, share: float) -> "_Folds":
        """share: of the new weights, as in the candidate."""
        config = lesson.config
        fold = np.random.default_rng(config.seed).permutation(len(new)) % config.folds
        networks = []
        for number in range(config.folds):
            network = lesson.learner.parent(lesson.parent)
            before = copied(network)
            taught = rows_of(new, fold != number)
            lesson.learner.learn(network, taught, config, f"fold {number + 1}", lesson.progress, lesson.trainer)
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


def _described(candidate: Candidate, lesson: _Lesson, mixture: Mixture | None, ratio: float | None) -> Refined:
    made, parent, labels = candidate.manifest.provenance, read_manifest(lesson.parent), lesson.labels
    points = candidate.manifest.operating_points | recent_budget(candidate.onnx, labels.recent, lesson.task)
    sizes = {**made.split_sizes, "labels": len(labels.train), "audit labels": len(labels.calibrate)}
    provenance = made.model_copy(
        update={"parent_version": parent.version, "snapshot": labels.fingerprint or None, "split_sizes": sizes}
    )
    return Refined(
        candidate.onnx,
        candidate.manifest.model_copy(
            update={"provenance": provenance, "model": parent.model, "operating_points": points}
        ),
        f"{candidate.network}\n{_story(lesson, mixture)}",
        learned=tuple(row.sample_id for row in labels.train.rows),
        left_out=tuple(labels.train.left_out + labels.calibrate.left_out),
        calibrated_on=len(labels.calibrate),
        mixture=mixture,
        honest_ratio=ratio,
    )


def _story(lesson: _Lesson, mixture: Mixture | None) -> str:
    """A sentence for the model card."""
    labels, of = lesson.labels, f"version {lesson.parent.name}"
    what = f"{len(labels.train)} new labels and old images" if labels.fingerprint else "old images alone"
    if lesson.config.command:
        share = "" if mixture is None else f", and its weights lie {mixture.share:g} of the way to those that it left"
        return f"It was fine-tuned from {of} on {what} by `{lesson.config.command}`{share}."
    if mixture is None:
        return f"The regressor is that of {of}; the loss head was fitted again."
    if mixture.share == 0:
        return f"The regressor is that of {of}: fine-tuning on {what} made it no better on the calibration split."
    return f"It was fine-tuned from {of} on {what}; its weights lie {mixture.share:g} of the way to those it learned."
