"""Trains the regressor, then a loss head on what the finished regressor sees; neither touches the other.

examples -> `train_regressor` -> `observe` (frozen, eval mode: feature maps and true losses) ->
`train_loss_head`. The head gets numbers without a gradient, so the regressor's predictions are
bit-identical with and without it. Same seed, machine and thread count: same weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.loss_head import Architecture, LossHead
from models.networks.regressors import Features, Regressor, normalise
from models.objectives.learning_loss import OBJECTIVES, Objective, learning_loss
from models.tasks.protocol import Examples, RegressionTask
from models.training.augmentation import Augmentation, augment, mirror_order
from models.training.loop import Engine, Plan, Watch, fit, reproducible

WEIGHT_DECAY = 1e-4

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


def silent(_what: str, _done: int, _total: int) -> None:
    """The progress callback of library use."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    seed: int = 0
    objective: Objective = "learning_loss_pp"
    head: Architecture | Literal["keypoint"] = "convolutional"
    batch_size: int = 32
    trunk_epochs: int = 60  # each on views that no epoch before has seen
    trunk_views: int = 4  # of every source image in an epoch
    trunk_learning_rate: float = 4e-3
    trunk_weight_decay: float = WEIGHT_DECAY
    trunk_average: float = 0.0  # decay per step of the running average of the weights; 0: none
    augmentation: Augmentation | None = None  # of the trunk's batches, for tasks whose images are fixed
    head_views: int = 8
    head_epochs: int = 8
    head_learning_rate: float = 2e-3
    margin: float = 1.0  # of learning_loss, in scores

    def scaled(self, effort: float) -> "TrainingConfig":
        """The same with `effort` times as many epochs, at least one of each."""
        trunk, head = (max(1, round(effort * usual)) for usual in (self.trunk_epochs, self.head_epochs))
        return replace(self, trunk_epochs=trunk, head_epochs=head)

    @classmethod
    def tiny(cls) -> "TrainingConfig":
        """Seconds instead of minutes, for tests of everything that follows training."""
        return cls(trunk_epochs=1, trunk_views=1, head_views=1, head_epochs=1)


@dataclass(frozen=True, slots=True)
class Observations:
    """What a frozen regressor makes of n examples, and how wrong it is on each; tensors on the CPU."""

    maps: tuple[Tensor, ...]  # [n, c_i, h_i, w_i], finest first
    embeddings: Tensor  # [n, e]
    losses: NDArray[np.float64]  # [n], true losses in the task's unit
    predictions: NDArray[np.float32]  # [n, ...] in canvas units
    heatmaps: Tensor | None = None  # [n, k, h, w], of regressors that have them


def train_regressor(  # noqa: PLR0913, PLR0917 - what, from what, how, where, and two who watch
    regressor: Regressor,
    task: RegressionTask,
    config: TrainingConfig,
    progress: Progress = silent,
    engine: Engine | None = None,
    watch: Watch | None = None,
) -> None:
    """Fits `regressor` in place to the trunk split by its own loss; leaves it in eval mode.

    An epoch takes views that no epoch before it has seen, where the task draws them: of digits, canvases seen
    twenty times are learned by heart (2.3 px against 6.7 on unseen). Where images are fixed, `augmentation` does.
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
        fit(regressor, columns, loss, plan, engine or Engine.start(), partial(progress, "trunk"), watch)


def observe(regressor: Regressor, examples: Examples, task: RegressionTask, batch_size: int = 64) -> Observations:
    """Runs the frozen regressor in eval mode over `examples`; nothing it returns carries a gradient."""
    regressor.eval()
    with torch.no_grad():
        batches = [_seen(regressor, images) for images in torch.split(torch.from_numpy(examples.images), batch_size)]
    preds = torch.cat([batch.prediction for batch in batches]).numpy()
    heatmaps = [batch.heatmaps for batch in batches if batch.heatmaps is not None]
    return Observations(
        maps=tuple(torch.cat(maps) for maps in zip(*(batch.maps for batch in batches), strict=True)),
        embeddings=torch.cat([batch.embedding for batch in batches]),
        losses=task.true_loss(preds, examples.targets),
        predictions=preds,
        heatmaps=torch.cat(heatmaps) if heatmaps else None,
    )


def train_loss_head(
    head: LossHead,
    observations: Observations,
    config: TrainingConfig,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> None:
    """Fits `head` in place to rank the true losses by the chosen objective and leaves it in eval mode.

    Raises ValueError for losses that nothing can be learned from; see `check_losses`.
    """
    check_losses(observations.losses)
    everything = (*observations.maps, torch.from_numpy(observations.losses).to(torch.float32))

    objective = OBJECTIVES[config.objective]
    if config.objective == "learning_loss":
        objective = partial(learning_loss, margin=config.margin)

    def loss(model: nn.Module, *batch: Tensor) -> Tensor:
        *maps, losses = batch
        return objective(model(maps), losses)

    plan = Plan(
        name="loss head",
        size=len(observations.losses),
        epochs=config.head_epochs,
        batch_size=config.batch_size,
        learning_rate=config.head_learning_rate,
        weight_decay=WEIGHT_DECAY,
        about=f"{config.head} head, {config.objective}, margin {config.margin:g}, seed {config.seed}",
    )
    with reproducible(config.seed):
        fit(head, lambda _epoch: everything, loss, plan, engine or Engine.start(), partial(progress, "loss head"))


def check_losses(losses: NDArray[np.float64]) -> None:
    """Raises ValueError unless the true losses are finite, not negative and not all the same."""
    if not np.isfinite(losses).all():
        raise ValueError(f"{int((~np.isfinite(losses)).sum())} of {losses.size} true losses are not finite")
    if losses.min() < 0:
        raise ValueError(f"true losses must not be negative, but one is {losses.min():g}")
    if losses.min() == losses.max():
        raise ValueError(
            f"all {losses.size} true losses are {losses.max():g}: there is nothing for a loss head to learn"
        )


def _seen(regressor: Regressor, images: Tensor) -> Features:
    device = next(regressor.parameters()).device
    seen = regressor(normalise(images.to(device)))
    heatmaps = None if seen.heatmaps is None else seen.heatmaps.cpu()
    return Features(seen.prediction.cpu(), tuple(one.cpu() for one in seen.maps), seen.embedding.cpu(), heatmaps)
