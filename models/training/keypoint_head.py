"""Trains a keypoint loss head on the readings of a frozen network; the network itself is not touched.

examples -> `read_examples` (readings, predictions and keypoint losses, in batches) -> `train_keypoint_head`. The head
gets numbers without a gradient. Same seed, machine and thread count: same weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.heatmap_features import Readings, read
from models.networks.keypoint_head import KeypointLossHead
from models.networks.regressors import Regressor, normalise
from models.objectives.joints import JOINT_OBJECTIVES, JointObjective
from models.objectives.learning_loss import OBJECTIVES, Objective
from models.objectives.pointwise import bounded_cross_entropy
from models.tasks.protocol import Examples, KeypointTask, RegressionTask
from models.training.augmentation import mirror_order
from models.training.config import Progress, TrainingConfig, silent
from models.training.loop import Plan, Trainer, fit, reproducible
from models.training.loss_head import check_losses

Over = Literal["keypoints", "images", "both"]
KeypointObjective = Objective | Literal["cross_entropy"]
HALVED = ("local", "context")  # parts kept as float16: they are the bulk


@dataclass(frozen=True, slots=True)
class KeypointTraining:
    """How a keypoint loss head learns; what is here was chosen by cross-validation inside `train`."""

    seed: int = 0
    objective: KeypointObjective = "learning_loss_pp_weighted"
    over: Over = "both"  # whose scores and losses the objective compares
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2


@dataclass(frozen=True, slots=True)
class KeypointObservations:
    """What a frozen network says of n examples, and how wrong it is on each of their k keypoints."""

    readings: Readings  # of n rows
    embeddings: Tensor  # [n, e]
    predictions: NDArray[np.float32]  # [n, k, 2] in canvas pixels
    keypoint_losses: NDArray[np.float64]  # [n, k] in the task's unit, NaN where not annotated

    @property
    def losses(self) -> NDArray[np.float64]:
        """[n], of the images."""
        return np.asarray(np.nanmean(self.keypoint_losses, axis=1))


def read_examples(
    regressor: Regressor, examples: Examples, task: KeypointTask, batch_size: int = 64
) -> KeypointObservations:
    """Runs the frozen network in eval mode and keeps what a head reads, not the maps themselves."""
    regressor.eval()
    device = next(regressor.parameters()).device
    seen, embeddings, preds = [], [], []
    with torch.no_grad():
        for images in torch.split(torch.from_numpy(examples.images), batch_size):
            features = regressor(normalise(images.to(device)))
            seen.append(halved(read(features, task.task.skeleton)))
            embeddings.append(features.embedding.cpu())
            preds.append(features.prediction.cpu())
    predictions = torch.cat(preds).numpy()
    losses = task.true_keypoint_loss(predictions, examples.targets)
    return KeypointObservations(joined(seen), torch.cat(embeddings), predictions, losses)


def merged(parts: Sequence[KeypointObservations]) -> KeypointObservations:
    """Several splits as one."""
    return KeypointObservations(
        joined([part.readings for part in parts]),
        torch.cat([part.embeddings for part in parts]),
        np.concatenate([part.predictions for part in parts]),
        np.concatenate([part.keypoint_losses for part in parts]),
    )


def mirrored(examples: Examples, names: Sequence[str]) -> Examples:
    """The mirror images, left keypoints called right and the other way round: twice the data for a head."""
    targets = examples.targets[:, mirror_order(names)]
    targets[..., 0] = examples.images.shape[2] - targets[..., 0]
    return replace(examples, images=np.ascontiguousarray(examples.images[:, :, ::-1]), targets=targets)


def halved(readings: Readings) -> Readings:
    """On the CPU, the bulky parts as float16."""
    parts = {name: one.cpu() for name, one in readings._asdict().items()}
    return Readings(**{name: one.half() if name in HALVED else one for name, one in parts.items()})


def joined(rows: Sequence[Readings]) -> Readings:
    """Several batches as one."""
    return Readings(*(torch.cat(part) for part in zip(*rows, strict=True)))


def train_keypoint_head(
    head: KeypointLossHead,
    observations: KeypointObservations,
    config: KeypointTraining,
    progress: Progress = silent,
    trainer: Trainer | None = None,
) -> None:
    """Fits `head` in place and leaves it in eval mode. Raises ValueError for losses that teach nothing."""
    losses = observations.losses
    check_losses(losses)
    _check(config)
    head.standardise(observations.readings)
    keypoint_losses = torch.from_numpy(observations.keypoint_losses).to(torch.float32)
    columns = (*observations.readings, keypoint_losses, torch.from_numpy(losses).to(torch.float32))
    levels = float(keypoint_losses.nanmean()), float(losses.mean())

    def loss(model: nn.Module, *batch: Tensor) -> Tensor:
        *parts, of_keypoints, of_images = batch
        scores, image_scores = model(*(part.float() for part in parts))
        return _loss(config, (scores, image_scores), (of_keypoints, of_images), levels)

    plan = Plan(
        name="loss head",
        size=len(losses),
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        about=f"keypoint head, {config.objective} over {config.over}, seed {config.seed}",
    )
    with reproducible(config.seed):
        fit(
            _FromParts(head),
            lambda _epoch: columns,
            loss,
            plan,
            trainer or Trainer.start(),
            partial(progress, "loss head"),
        )
    head.eval()


def learn_keypoint_losses(  # noqa: PLR0913, PLR0917 - as `train_regressor`
    head: KeypointLossHead,
    regressor: Regressor,
    task: RegressionTask,
    config: TrainingConfig,
    progress: Progress = silent,
    trainer: Trainer | None = None,
) -> Tensor:
    """Fits `head` in place on all of `train` and its mirror images; embeddings [n, e] of the head split alone.

    The images that the trunk has learned from are in, as its errors on them are hardly smaller (docs/detection.md).
    """
    whole = keypoint_task(task)
    plain = [task.examples(split) for split in ("head", "trunk")]
    views = (*plain, *(mirrored(examples, task.task.names) for examples in plain))
    seen = [read_examples(regressor, examples, whole) for examples in views]
    training = KeypointTraining(
        config.seed, config.objective, epochs=config.head_epochs, learning_rate=config.head_learning_rate
    )
    train_keypoint_head(head, merged(seen), training, progress, trainer)
    return seen[0].embeddings


def keypoint_task(task: RegressionTask) -> KeypointTask:
    """The same task. Raises ValueError when it does not say how wrong each keypoint is."""
    if not hasattr(task, "true_keypoint_loss"):
        raise ValueError(f"task {task.task.name!r} has no loss of each keypoint")
    return cast(KeypointTask, task)


def score_readings(head: KeypointLossHead, readings: Readings, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Scores of keypoints [n, k] and of images [n], in eval mode and without a gradient."""
    head.eval()
    with torch.no_grad():
        parts = zip(*(torch.split(part, batch_size) for part in readings), strict=True)
        scores, image_scores = zip(*(head.scores(Readings(*(p.float() for p in row))) for row in parts), strict=True)
    return torch.cat(scores), torch.cat(image_scores)


class _FromParts(nn.Module):
    """The head as a module whose forward takes the parts, as the trainer needs it."""

    def __init__(self, head: KeypointLossHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, *parts: Tensor) -> tuple[Tensor, Tensor]:
        return self.head.scores(Readings(*parts))


def _loss(
    config: KeypointTraining, scores: tuple[Tensor, Tensor], losses: tuple[Tensor, Tensor], levels: tuple[float, float]
) -> Tensor:
    """levels: mean losses of keypoints and of images, the unit in which pointwise objectives count."""
    total = scores[1].new_zeros(())
    if config.over != "images":
        total = total + _of_keypoints(config.objective, scores[0], losses[0], levels[0])
    if config.over != "keypoints":
        total = total + _of_images(config.objective, scores[1], losses[1], levels[1])
    return total


def _of_keypoints(name: KeypointObjective, scores: Tensor, losses: Tensor, level: float) -> Tensor:
    if name in get_args(JointObjective):
        return JOINT_OBJECTIVES[name](scores, losses, "both")  # type: ignore[index] # narrowed by the line above
    there = ~torch.isnan(losses)
    return _of_images(name, scores[there], losses[there], level)


def _of_images(name: KeypointObjective, scores: Tensor, losses: Tensor, level: float) -> Tensor:
    if name == "cross_entropy":
        return bounded_cross_entropy(scores, losses)
    return OBJECTIVES[name](scores, losses / level)


def _check(config: KeypointTraining) -> None:
    known = (*OBJECTIVES, "cross_entropy")
    if config.objective not in known:
        raise ValueError(f"unknown objective {config.objective!r}: choose one of {', '.join(known)}")
    if config.over not in get_args(Over):
        raise ValueError(f"an objective is over {', '.join(get_args(Over))}, not {config.over!r}")
