"""Refits the loss head on the task's own images and on the new labels.

A head must learn the losses of images that the regressor has not seen. For new labels that it has learned from, the
losses come from networks that have not: out of fold. Where both are nearly alike, all images are used as they are
(docs/decisions/0022-fine-tuning.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.keypoint_head import KeypointLossHead
from models.networks.regressors import Regressor
from models.pipeline import Trained
from models.tasks.protocol import Examples, RegressionTask
from models.training.config import Progress, TrainingConfig
from models.training.heads import build_head
from models.training.keypoint_head import (
    KeypointObservations,
    KeypointTraining,
    keypoint_task,
    merged,
    mirrored,
    read_examples,
    train_keypoint_head,
)
from models.training.loop import Trainer, reproducible
from models.training.loss_head import Observations, observe, train_loss_head

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # images of the new labels, in their order -> predictions


@dataclass(frozen=True, slots=True)
class Taught:
    """The new labels for a head. predict: how networks that have not seen them predict them; None: as this one does."""

    examples: Examples
    predict: Predict | None = None


def refit_head(  # noqa: PLR0913, PLR0917 - as `train_any_head`
    regressor: Regressor,
    task: RegressionTask,
    taught: Taught | None,
    config: TrainingConfig,
    progress: Progress,
    trainer: Trainer,
) -> Trained:
    """A fresh head for `regressor`, from the task's images and the new labels. Raises ValueError as `train_head`."""
    with reproducible(config.seed):
        head = build_head(regressor, task, config)
    if isinstance(head, KeypointLossHead):
        seen = _keypoint_observations(regressor, task, taught)
        training = KeypointTraining(
            config.seed, config.objective, epochs=config.head_epochs, learning_rate=config.head_learning_rate
        )
        train_keypoint_head(head, merged(seen), training, progress, trainer)
        embeddings = [seen[0].embeddings] if taught is None else [seen[0].embeddings, seen[1].embeddings]
        return Trained(regressor, head.cpu(), torch.cat(embeddings))
    observations = observe(regressor, task.examples("head", config.head_views, config.seed), task)
    if taught is not None:
        observations = _joined(observations, _observed(regressor, task, taught))
    train_loss_head(head, observations, config, progress, trainer)
    return Trained(regressor, head.cpu(), observations.embeddings)


def _observed(regressor: Regressor, task: RegressionTask, taught: Taught) -> Observations:
    seen = observe(regressor, taught.examples, task)
    if taught.predict is None:
        return seen
    return replace(seen, losses=task.true_loss(taught.predict(taught.examples.images), taught.examples.targets))


def _joined(first: Observations, second: Observations) -> Observations:
    """Without heatmaps, which only keypoint heads read."""
    return Observations(
        maps=tuple(torch.cat(pair) for pair in zip(first.maps, second.maps, strict=True)),
        embeddings=torch.cat((first.embeddings, second.embeddings)),
        losses=np.concatenate((first.losses, second.losses)),
        predictions=np.concatenate((first.predictions, second.predictions)),
    )


def _keypoint_observations(
    regressor: Regressor, task: RegressionTask, taught: Taught | None
) -> list[KeypointObservations]:
    """Of the head split, the new labels, the trunk split, and the mirror images of all; see `learn_keypoint_losses`."""
    whole, names = keypoint_task(task), task.task.names

    def read(examples: Examples, predict: Predict | None = None) -> KeypointObservations:
        seen = read_examples(regressor, examples, whole)
        if predict is None:
            return seen
        losses = whole.true_keypoint_loss(predict(examples.images), examples.targets)
        return replace(seen, keypoint_losses=losses)

    head, trunk = task.examples("head"), task.examples("trunk")
    seen = [read(head)]
    if taught is not None:
        seen.append(read(taught.examples, taught.predict))
        seen.append(read(mirrored(taught.examples, names), taught.predict))
    return [*seen, read(trunk), *(read(mirrored(examples, names)) for examples in (head, trunk))]
