from pathlib import Path
from types import SimpleNamespace

import pytest

from models.networks.heatmap import HeatmapNet
from models.networks.regressors import KeypointNet
from models.tasks.digits import Digits
from models.tasks.pose import Pose
from models.training.recipes import recipe


def test_every_task_gets_a_network_for_its_points_and_channels(pose_folder: Path) -> None:
    digits, pose = Digits(), Pose(pose_folder)
    voting, heatmaps = recipe(digits).build(digits), recipe(pose).build(pose)
    assert isinstance(voting, KeypointNet)
    assert isinstance(heatmaps, HeatmapNet)
    assert heatmaps.heatmaps.out_channels == 14


def test_views_that_a_task_of_fixed_images_lacks_are_not_asked_for(pose_folder: Path) -> None:
    config = recipe(Pose(pose_folder)).config
    assert config.trunk_views == config.head_views == 1
    assert config.augmentation is not None


def test_a_task_that_is_not_of_keypoints_is_refused() -> None:
    vector = SimpleNamespace(task=SimpleNamespace(name="ages", kind="vector"))
    with pytest.raises(ValueError, match="'ages' predicts a vector"):
        recipe(vector)
