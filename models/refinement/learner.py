"""How the regressor of a version is made and how it learns: by the recipe of its task, or by a function of an owner."""

from pathlib import Path
from typing import Protocol

from models.networks.regressors import Regressor
from models.refinement.config import RefinementConfig
from models.refinement.trunk import tune
from models.refinement.weights import load_parent
from models.tasks.protocol import Examples, RegressionTask
from models.training.config import Progress, TrainingConfig
from models.training.loop import Trainer
from models.training.recipes import recipe


class Learner(Protocol):
    """What fine-tuning asks for."""

    @property
    def training(self) -> TrainingConfig:
        """Of the loss head."""

    @property
    def identity(self) -> str:
        """Differs between learners that would teach otherwise: a candidate of another one is not gone on with."""

    def parent(self, folder: Path) -> Regressor:
        """The regressor of the version in `folder`, in eval mode. Raises RefinementError and BundleError."""

    def learn(  # noqa: PLR0913, PLR0917 - what, from what, how, and where to
        self,
        regressor: Regressor,
        new: Examples | None,
        config: RefinementConfig,
        name: str,
        progress: Progress,
        trainer: Trainer,
    ) -> None:
        """Teaches it in place and leaves it in eval mode on the CPU.

        new: None for the placebo, which learns from old images alone. name: of this work.
        """


class RecipeLearner:
    """Of a task whose network we build ourselves."""

    identity = "recipe"

    def __init__(self, task: RegressionTask) -> None:
        self._task = task

    @property
    def training(self) -> TrainingConfig:
        return recipe(self._task).config

    def parent(self, folder: Path) -> Regressor:
        return load_parent(folder, self._task, lambda: recipe(self._task).build(self._task))

    def learn(  # noqa: PLR0913, PLR0917 - as the protocol
        self,
        regressor: Regressor,
        new: Examples | None,
        config: RefinementConfig,
        name: str,
        progress: Progress,
        trainer: Trainer,
    ) -> None:
        tune(regressor, self._task, new, config, name, progress, trainer)
