"""Which network learns a task, and how: the choices that were measured, by the task's name.

A task that is not named here gets what digits get: its images are then taken to be drawn anew each epoch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.networks.heatmap import HeatmapNet, HeatmapNetConfig
from models.networks.regressors import KeypointNet, KeypointNetConfig, Regressor
from models.tasks.protocol import RegressionTask
from models.training.augmentation import Augmentation
from models.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """`build` makes a fresh `Regressor`, from whatever random state there is."""

    build: Callable[[RegressionTask], Regressor]
    config: TrainingConfig
    precision: str = "32-true"  # in Lightning Fabric's words


def recipe(task: RegressionTask) -> Recipe:
    """Raises ValueError for a task that no built-in network can learn."""
    if task.task.kind != "keypoints":
        raise ValueError(f"task {task.task.name!r} predicts a vector; the built-in regressor predicts keypoints")
    return RECIPES.get(task.task.name, RECIPES["digits"])


def _voting_network(task: RegressionTask) -> Regressor:
    return KeypointNet(KeypointNetConfig(len(task.task.names), task.preprocessing.channels))


def _heatmap_network(task: RegressionTask) -> Regressor:
    return HeatmapNet(HeatmapNetConfig(len(task.task.names), task.preprocessing.channels))


RECIPES: Mapping[str, Recipe] = {
    "digits": Recipe(_voting_network, TrainingConfig()),
    "pose": Recipe(
        _heatmap_network,
        TrainingConfig(
            trunk_epochs=40,
            trunk_views=1,
            trunk_learning_rate=3e-3,
            trunk_average=0.998,
            trunk_weight_decay=1e-2,
            augmentation=Augmentation(),
            head_views=1,
            objective="learning_loss_pp_weighted",
            head="keypoint",
            head_epochs=5,
        ),
        precision="bf16-mixed",  # half the time on a CPU
    ),
}
