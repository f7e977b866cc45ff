"""Adoption: any PyTorch regressor gets a loss head beside it, and becomes a bundle that can be served.

The network stays as it is: frozen, in eval mode, its predictions bit-identical with and without the head. What the
head reads are the outputs of layers that the user names; what it learns is the user's own loss of each sample.

    layers by name -> `TappedRegressor` -> the head on `head` data -> calibrated -> exported -> published
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.contract import manifest
from models.contract.runtime import load_runtime
from models.loaded_task import Batches, LoadedSplit, LoadedTask, SampleLoss
from models.pipeline import finish, train_head
from models.regressors import normalise
from models.tapped import TappedRegressor
from models.training import Progress, TrainingConfig, silent

PROBE = 8  # images that a network must answer before anything is learned
CARD = "The network and its data were brought by their owner, whose documentation describes them."


class AdoptionError(ValueError):
    """The network cannot be adopted; the message says what is wrong and what to do."""


def adopt(  # noqa: PLR0913 - what a network, a task and its data consist of
    network: nn.Module,
    layers: Sequence[str],
    *,
    task: manifest.Task,
    loss: manifest.Loss,
    sample_loss: SampleLoss,
    data: Mapping[LoadedSplit, Batches],
    store: Path,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (255.0,),
    config: TrainingConfig | None = None,
    card: str = CARD,
    progress: Progress = silent,
) -> Path:
    """Trains a loss head for `network`, publishes both as the next version in `store`, makes it live; its folder.

    network: takes float [b, channels, height, width], (pixel - mean) / std of grey levels from 0 to 255, and predicts
    [b, k] for a vector or [b, k, 2] in pixels for keypoints. layers: names as in `network.named_modules()`, whose
    outputs the head reads. sample_loss: of predictions and targets, both as the network predicts -> losses [b], in the
    unit of `loss`. data: batches of uint8 images [b, height, width, channels] and their targets, for "head" (best of
    images that the network has not learned from), "calibration" and "test", disjoint.

    Raises AdoptionError, ValueError (a layer, data or losses that cannot be used) or RuntimeMissing before the first
    epoch.
    """
    load_runtime()
    learned = LoadedTask(task, loss, sample_loss, data, card)
    regressor = TappedRegressor(network, layers, task, learned.preprocessing, mean, std)
    _check_answers(regressor, learned)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = config or TrainingConfig(head_views=1)
    trained = train_head(regressor, learned, config, progress)
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    if changed:
        raise AdoptionError(f"the network changed while its head was trained, in {changed[0]}: it must be frozen")
    return finish(learned, store, config, trained, progress)


def _check_answers(regressor: TappedRegressor, task: LoadedTask) -> None:
    """Finite, and the same for the same images, alone and while its layers are read."""
    images = normalise(torch.from_numpy(np.ascontiguousarray(task.examples("head").images[:PROBE])))
    with torch.no_grad():
        first, second = regressor(images).prediction, regressor(images).prediction
        alone = regressor.alone(images)
    if not torch.isfinite(first).all():
        raise AdoptionError("the network predicts NaN or infinity: check its weights, `mean` and `std`")
    if not torch.equal(first, second):
        raise AdoptionError(
            "the network answers the same images differently each time: in eval mode it draws random numbers, or "
            "changes its own buffers; it must be frozen"
        )
    if not torch.equal(first, alone):
        raise AdoptionError("the network answers differently while its layers are read: name other layers")
