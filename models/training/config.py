"""The settings of a training, and the callback through which it reports its progress."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from models.networks.loss_head import Architecture
from models.objectives.learning_loss import Objective
from models.training.augmentation import Augmentation

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
