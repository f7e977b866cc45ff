"""Adoption: any PyTorch regressor gets a loss head beside it and becomes a bundle that can be served.

The network stays as it is: frozen, in eval mode, with bit-identical predictions with and without the head. The head
reads the outputs of layers that the user names. It learns the user's own loss of each sample.

    layers by name -> `TappedRegressor` -> loss head on the `head` data -> calibrate -> export -> publish -> live
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.calibration.bounds import budget_threshold
from models.calibration.data import OOD_BUDGET
from models.contract import manifest
from models.contract.index import check_store
from models.contract.runtime import load_runtime
from models.networks.regressors import normalise
from models.networks.tapped import TappedRegressor
from models.pipeline import finish_bundle, train_head
from models.tasks.loaded import OWNERS_CARD, Batches, LoadedSplit, LoadedTask, SampleLoss
from models.tasks.protocol import check_examples
from models.training.config import Progress, TrainingConfig, silent
from models.training.loss_head import check_losses

PROBE = 8  # images that the network must predict before anything is learned
BATCH = 64


class AdoptionError(ValueError):
    """The network cannot be adopted; the message says what is wrong and what to do."""


def adopt(  # noqa: PLR0913 - a network, a task and its data consist of that much
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
    card: str = OWNERS_CARD,
    progress: Progress = silent,
) -> Path:
    """Trains a loss head for `network`, publishes both as the next version in `store` and makes it live.

    network: takes float [b, channels, height, width], (pixel - mean) / std of grey levels from 0 to 255, and predicts
    [b, k] for a vector or [b, k, 2] in pixels for keypoints. layers: names as in `network.named_modules()`; the head
    reads the outputs of these layers. sample_loss: (predictions, targets), both in the form of the network's
    predictions -> losses [b], in the unit of `loss`. data: batches of uint8 images [b, height, width, channels] and
    their targets, for "head", "calibration" and "test". No image may be in two of them, and the network should not
    have learned from the images of "head". A batch may have a third part, the sizes [b, 2] of the images as they will
    be posted; without it the service does not watch aspect and size for drift.

    Returns the folder of the version.

    Raises AdoptionError, ValueError (a layer, data, losses or a store that cannot be used) or RuntimeMissing before the
    first epoch.
    """
    load_runtime()
    check_store(store, task.name)
    learned = LoadedTask(task, loss, sample_loss, data, card)
    regressor = TappedRegressor(network, layers, task, learned.preprocessing, mean, std)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _check_answers(regressor, learned)
    _check_frozen(network, before)
    _check_measurable(regressor, learned)
    config = config or TrainingConfig(head_views=1)
    trained = train_head(regressor, learned, config, progress)
    _check_frozen(network, before)
    return finish_bundle(trained, learned, store, config, progress)


def _check_frozen(network: nn.Module, before: Mapping[str, Tensor]) -> None:
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    if changed:
        raise AdoptionError(
            f"the network changes when it is used, in {changed[0]}, also in eval mode: it must be frozen"
        )


def _check_measurable(regressor: TappedRegressor, task: LoadedTask) -> None:
    """Checks that the losses allow thresholds and figures, and that there are enough images for an OOD threshold."""
    for split in ("calibration", "test"):
        examples = task.examples(split)
        check_examples(examples, task.task, task.preprocessing, f"the {split} split of {task.task.name}")
        with torch.no_grad():
            batches = torch.split(torch.from_numpy(examples.images), BATCH)
            preds = torch.cat([regressor.alone(normalise(images)) for images in batches])
        try:
            losses = task.true_loss(preds.numpy(), examples.targets)
            check_losses(losses)
            if split == "calibration":
                budget_threshold(losses, OOD_BUDGET)  # the number of images decides, not their values
        except ValueError as error:
            raise AdoptionError(f"the {split} split: {error}") from error


def _check_answers(regressor: TappedRegressor, task: LoadedTask) -> None:
    """Checks that predictions are finite, and the same for the same images, also while its layers are read."""
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
