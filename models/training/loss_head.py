"""Trains a loss head on the outputs of a finished regressor, which stays as it is.

examples -> `observe` (frozen, eval mode: feature maps and true losses) -> `train_loss_head`. The head gets numbers
without a gradient, so the predictions of the regressor are bit-identical with and without it. The same seed, machine
and thread count give the same weights.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.loss_head import LossHead
from models.networks.regressors import Features, Regressor, normalise
from models.objectives.learning_loss import OBJECTIVES, learning_loss
from models.tasks.protocol import Examples, RegressionTask
from models.training.config import WEIGHT_DECAY, Progress, TrainingConfig, silent
from models.training.loop import Plan, Trainer, fit, reproducible


@dataclass(frozen=True, slots=True)
class Observations:
    """What a frozen regressor makes of n examples, and how wrong it is on each; tensors on the CPU."""

    maps: tuple[Tensor, ...]  # [n, c_i, h_i, w_i], finest first
    embeddings: Tensor  # [n, e]
    losses: NDArray[np.float64]  # [n], true losses in the task's unit
    predictions: NDArray[np.float32]  # [n, ...] in canvas units
    heatmaps: Tensor | None = None  # [n, k, h, w], of regressors that have them


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
    trainer: Trainer | None = None,
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
        fit(head, lambda _epoch: everything, loss, plan, trainer or Trainer.start(), partial(progress, "loss head"))


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
