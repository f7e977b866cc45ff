"""Trains a regressor on the trunk split by its own loss.

The same seed, machine and thread count give the same weights.
"""

from functools import partial

import torch
from torch import Tensor, nn

from models.networks.regressors import Regressor, normalise
from models.tasks.protocol import RegressionTask
from models.training.augmentation import augment, mirror_order
from models.training.config import Progress, TrainingConfig, silent
from models.training.loop import Measure, Plan, Trainer, fit, reproducible


def train_regressor(  # noqa: PLR0913, PLR0917 - network, data, settings, device, and two callbacks
    regressor: Regressor,
    task: RegressionTask,
    config: TrainingConfig,
    progress: Progress = silent,
    trainer: Trainer | None = None,
    watch: Measure | None = None,
) -> None:
    """Fits `regressor` in place to the trunk split by its own loss; leaves it in eval mode.

    If the task draws its views, every epoch takes fresh ones: a network memorises canvases of digits that it sees
    twenty times (2.3 px of error against 6.7 on unseen ones). If images are fixed, `augmentation` varies them.
    """
    order = mirror_order(task.task.names)

    def columns(epoch: int) -> tuple[Tensor, ...]:
        views = task.examples("trunk", config.trunk_views, config.seed, first_view=epoch * config.trunk_views)
        return torch.from_numpy(views.images), torch.from_numpy(views.targets)

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        if config.augmentation is not None:
            images, targets = augment(images, targets, order, config.augmentation)
        return regressor.training_loss(model(normalise(images)), targets)

    plan = Plan(
        name="trunk",
        size=len(task.examples("trunk")) * config.trunk_views,
        epochs=config.trunk_epochs,
        batch_size=config.batch_size,
        learning_rate=config.trunk_learning_rate,
        weight_decay=config.trunk_weight_decay,
        average=config.trunk_average,
        about=f"data {task.fingerprint}, seed {config.seed}, {config.trunk_views} views, {config.augmentation}",
    )
    with reproducible(config.seed):
        fit(regressor, columns, loss, plan, trainer or Trainer.start(), partial(progress, "trunk"), watch)
