"""Refines a network that somebody else trained: its owner's function learns, the cycle does all the rest.

the live version's weights in the owner's network -> the owner's `fine_tune` -> mixed with the parent's -> a new loss
head, calibrated on audit labels -> candidate and placebo -> gates. `models.adoption` made the first version.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.contract import manifest
from models.contract.snapshot import read_snapshot
from models.networks.regressors import Regressor
from models.networks.tapped import TappedRegressor
from models.refinement.config import RefinementConfig, RefinementError
from models.refinement.cycle import Refinement, RefinementResult, refine
from models.refinement.judging import gates
from models.refinement.weights import load_parent
from models.tasks.loaded import OWNERS_CARD, Batches, LoadedSplit, LoadedTask, SampleLoss
from models.tasks.protocol import Examples
from models.training.config import Progress, TrainingConfig, silent
from models.training.loop import Trainer, reproducible


@dataclass(frozen=True, slots=True)
class NewLabels:
    """The images that teach. Both arrays are empty for the placebo: then only old images of yours may teach."""

    images: NDArray[np.uint8]  # [n, height, width, channels], as they are served
    targets: NDArray[np.float32]  # [n, k] or, for keypoints in pixels of the canvas, [n, k, 2]

    def __len__(self) -> int:
        return len(self.images)


# (network with the live version's weights, labels) -> the network, or None if it was changed in place
FineTune = Callable[[nn.Module, NewLabels], nn.Module | None]


def refine_adopted(  # noqa: PLR0913 - a network, a task and its data consist of that much
    network: nn.Module,
    layers: Sequence[str],
    *,
    fine_tune: FineTune | None = None,
    snapshot: Path,
    task: manifest.Task,
    loss: manifest.Loss,
    sample_loss: SampleLoss,
    data: Mapping[LoadedSplit, Batches],
    store: Path,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (255.0,),
    config: TrainingConfig | None = None,
    trainer: str = "",
    card: str = OWNERS_CARD,
    who: str = "unknown",
    seed: int = 0,
    progress: Progress = silent,
) -> RefinementResult:
    """Makes a candidate out of the live version of an adopted network and the labels of `snapshot`, and judges it.

    All but the following are as `models.adoption.adopt` got them. network: of the same architecture; its weights do not
    matter, the live version's take their place. fine_tune: teaches it. It is called with all labels, twice with half of
    them (the loss head needs losses on images that were not learned from), and once with none. snapshot: a folder that
    `losscast snapshot` made. trainer: another program in place of fine_tune (see `models.refinement.outside`).
    seed: of all random numbers of PyTorch.

    A call that was killed goes on where it stopped when it is repeated; a training that was cut off begins again.
    Raises RefinementError, SnapshotError, BundleError, OSError, and ValueError for parts that do not fit.
    """
    if (fine_tune is None) == (not trainer):
        raise RefinementError("give either fine_tune or trainer: something must teach the network")
    known = LoadedTask(task, loss, sample_loss, data, card)
    learner = AdoptedLearner(network, layers, known, mean, std, fine_tune, config or TrainingConfig(head_views=1))
    labels = read_snapshot(snapshot)[0].splits.get("train", 0)
    settings = RefinementConfig(seed=seed, command=trainer).for_labels(labels)
    asked = Refinement(store, task.name, known, snapshot, settings, who, learner=learner)
    return refine(asked, lambda folder: Trainer.start(folder=folder), gates(asked, progress), progress)


class AdoptedLearner:
    """A `Learner` whose network and training are its owner's."""

    def __init__(  # noqa: PLR0913, PLR0917 - as above
        self,
        network: nn.Module,
        layers: Sequence[str],
        task: LoadedTask,
        mean: Sequence[float],
        std: Sequence[float],
        fine_tune: FineTune | None,
        training: TrainingConfig,
    ) -> None:
        self.training = training
        self._network, self._layers, self._task = network, layers, task
        self._mean, self._std, self._fine_tune = mean, std, fine_tune

    @cached_property
    def identity(self) -> str:
        """The architecture and the name of the function: its text may be anywhere."""
        name = "" if self._fine_tune is None else getattr(self._fine_tune, "__qualname__", repr(type(self._fine_tune)))
        return hashlib.sha256(f"{self._network}\0{list(self._layers)}\0{name}".encode()).hexdigest()[:16]

    def parent(self, folder: Path) -> Regressor:
        """See `Learner.parent`."""
        return load_parent(folder, self._task, self._fresh)

    def learn(  # noqa: PLR0913, PLR0917 - as the protocol
        self,
        regressor: Regressor,
        new: Examples | None,
        config: RefinementConfig,
        name: str,
        progress: Progress,
        trainer: Trainer,
    ) -> None:
        """Lets the owner's function teach it. Raises RefinementError for a network that is not the same any more."""
        del trainer
        if not isinstance(regressor, TappedRegressor) or self._fine_tune is None:
            raise RefinementError("only an adopted network is taught by a function of its owner")
        progress(name, 0, 1)
        network = copy.deepcopy(regressor.base).requires_grad_()
        labels = self._none() if new is None else NewLabels(new.images.copy(), new.targets.copy())
        with reproducible(config.seed):
            taught = self._fine_tune(network.train(), labels)
        _take_over(regressor.base, network if taught is None else taught)
        progress(name, 1, 1)

    def _fresh(self) -> TappedRegressor:
        task = self._task
        network = copy.deepcopy(self._network)
        return TappedRegressor(network, self._layers, task.task, task.preprocessing, self._mean, self._std)

    def _none(self) -> NewLabels:
        head = self._task.examples("head")
        return NewLabels(head.images[:0], head.targets[:0])


def _take_over(base: nn.Module, taught: nn.Module) -> None:
    """Gives `base` the weights of `taught`."""
    if not isinstance(taught, nn.Module):
        raise RefinementError(f"fine_tune returned {type(taught).__name__}: return the network, or nothing")
    weights = {name: value.detach().cpu() for name, value in taught.state_dict().items()}
    wrong = [name for name, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if wrong:
        raise RefinementError(f"fine_tune left weights that are not finite, first in {wrong[0]}: lower its rate")
    try:
        base.load_state_dict(weights)
    except RuntimeError as error:
        raise RefinementError(
            f"fine_tune returned a network of another architecture: {' '.join(str(error).split())[:300]}"
        ) from error
    base.eval()
