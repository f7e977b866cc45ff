import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.networks.regressors import KeypointNet, KeypointNetConfig
from models.tasks.digits import Digits
from models.tasks.pose import Pose
from models.training.config import TrainingConfig
from models.training.loop import Trainer, TrainingError, reproducible
from models.training.loss_head import observe
from models.training.recipes import recipe
from models.training.regressor import train_regressor

TINY = TrainingConfig.tiny()


def trained_regressor(digits: Digits, config: TrainingConfig) -> KeypointNet:
    with reproducible(config.seed):
        net = KeypointNet(KeypointNetConfig())
    train_regressor(net, digits, config)
    return net


def weights(module: nn.Module) -> list[Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_training_lowers_the_true_loss_on_unseen_sources(digits: Digits) -> None:
    with reproducible(0):
        fresh = KeypointNet(KeypointNetConfig())
    before = observe(fresh, digits.examples("test"), digits).losses.mean()
    learned = trained_regressor(digits, dataclasses.replace(TINY, trunk_epochs=3))
    assert observe(learned, digits.examples("test"), digits).losses.mean() < 0.9 * before


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(digits: Digits, regressor: KeypointNet) -> None:
    assert same(weights(regressor), weights(trained_regressor(digits, TINY)))
    assert not same(weights(regressor), weights(trained_regressor(digits, dataclasses.replace(TINY, seed=1))))


@pytest.mark.slow
def test_a_trunk_is_not_taken_from_the_run_of_another_seed(tmp_path: Path, digits: Digits) -> None:
    trainer = Trainer.start(folder=tmp_path)
    train_regressor(KeypointNet(KeypointNetConfig()), digits, TINY, trainer=trainer)
    with pytest.raises(TrainingError, match="is of another training"):
        train_regressor(KeypointNet(KeypointNetConfig()), digits, dataclasses.replace(TINY, seed=1), trainer=trainer)


@pytest.mark.slow
def test_a_network_with_heatmaps_learns_photographs_that_lack_joints(pose_folder: Path) -> None:
    task = Pose(pose_folder)
    usual = recipe(task)
    with reproducible(0):
        net = usual.build(task)
    before = float(observe(net, task.examples("trunk"), task).losses.mean())
    train_regressor(net, task, dataclasses.replace(usual.config, trunk_epochs=4, batch_size=10, trunk_average=0.8))
    seen = observe(net, task.examples("trunk"), task)
    assert seen.losses.mean() < 0.9 * before
    assert seen.heatmaps is not None
    assert seen.heatmaps.shape == (50, 14, 32, 32)
    assert seen.predictions.shape == (50, 14, 2)
