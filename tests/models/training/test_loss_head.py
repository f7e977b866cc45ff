import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.networks.loss_head import LossHeadConfig, build_loss_head
from models.networks.regressors import KeypointNet, KeypointNetConfig, normalise
from models.objectives.learning_loss import OBJECTIVES, Objective
from models.tasks.digits import Digits
from models.tasks.pose import Pose
from models.training.config import TrainingConfig
from models.training.loop import Trainer, TrainingError, reproducible
from models.training.loss_head import Observations, observe, train_loss_head
from models.training.recipes import recipe
from models.training.regressor import train_regressor

TINY = TrainingConfig.tiny()


@pytest.fixture(scope="module")
def regressor(digits: Digits) -> KeypointNet:
    return trained_regressor(digits, TINY)


@pytest.fixture(scope="module")
def head_data(regressor: KeypointNet, digits: Digits) -> Observations:
    return observe(regressor, digits.examples("head"), digits)


def trained_regressor(digits: Digits, config: TrainingConfig) -> KeypointNet:
    with reproducible(config.seed):
        net = KeypointNet(KeypointNetConfig())
    train_regressor(net, digits, config)
    return net


def trained_head(head_data: Observations, config: TrainingConfig) -> nn.Module:
    assert config.head != "keypoint"
    with reproducible(config.seed):
        head = build_loss_head(LossHeadConfig(tuple(one.shape[1] for one in head_data.maps), config.head))
    train_loss_head(head, head_data, config)
    return head


def observations(maps: tuple[Tensor, ...], losses: Tensor) -> Observations:
    count = len(losses)
    return Observations(maps, torch.zeros(count, 1), losses.double().numpy(), np.zeros((count, 4, 2), np.float32))


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


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(
    digits: Digits, regressor: KeypointNet, head_data: Observations
) -> None:
    assert same(weights(regressor), weights(trained_regressor(digits, TINY)))
    other = dataclasses.replace(TINY, seed=1)
    assert not same(weights(regressor), weights(trained_regressor(digits, other)))
    head = weights(trained_head(head_data, TINY))
    assert same(head, weights(trained_head(head_data, TINY)))
    assert not same(head, weights(trained_head(head_data, other)))


def test_predictions_are_bit_identical_with_and_without_a_head(digits: Digits, regressor: KeypointNet) -> None:
    images = normalise(torch.from_numpy(digits.examples("test").images[:32]))
    before, state = regressor(images), weights(regressor)
    trained_head(observe(regressor, digits.examples("head"), digits), TINY)
    after = regressor(images)
    assert same(state, weights(regressor))
    assert torch.equal(before.prediction, after.prediction)
    assert torch.equal(before.embedding, after.embedding)


def test_what_the_head_sees_carries_no_gradient(head_data: Observations) -> None:
    assert not any(tensor.requires_grad for tensor in (*head_data.maps, head_data.embeddings))


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_a_head_learns_to_rank_what_its_maps_give_away(objective: Objective) -> None:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(512, generator=generator) * 5
    maps = tuple(
        torch.rand(512, 2, side, side, generator=generator) + losses.log()[:, None, None, None] for side in (8, 4)
    )
    config = dataclasses.replace(TINY, objective=objective, head_epochs=8)
    data = observations(maps, losses)
    head = trained_head(data, config)
    with torch.no_grad():
        scores = head(data.maps)
    ranks = torch.stack((scores, losses)).argsort(dim=1).argsort(dim=1).double()
    assert torch.corrcoef(ranks)[0, 1] > 0.95


def test_training_leaves_the_random_state_and_the_global_switches_alone(head_data: Observations) -> None:
    state, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    trained_head(head_data, TINY)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_modules_are_left_in_eval_mode(regressor: KeypointNet, head_data: Observations) -> None:
    assert not regressor.training
    assert not trained_head(head_data, TINY).training


def test_progress_counts_every_step_up_to_the_total(head_data: Observations) -> None:
    seen: list[tuple[str, int, int]] = []
    head = build_loss_head(LossHeadConfig(tuple(one.shape[1] for one in head_data.maps)))
    train_loss_head(head, head_data, TINY, lambda *step: seen.append(step))
    assert seen == [("loss head", step, 12) for step in range(1, 13)]


@pytest.mark.parametrize("change", [{"seed": 1}, {"objective": "learning_loss"}, {"margin": 2.0}])
def test_a_head_is_not_taken_from_the_run_of_another_seed_or_objective(
    tmp_path: Path, head_data: Observations, change: dict[str, Any]
) -> None:
    head = build_loss_head(LossHeadConfig(tuple(one.shape[1] for one in head_data.maps)))
    trainer = Trainer.start(folder=tmp_path)
    train_loss_head(head, head_data, TINY, trainer=trainer)
    with pytest.raises(TrainingError, match="is of another training"):
        train_loss_head(head, head_data, dataclasses.replace(TINY, **change), trainer=trainer)


@pytest.mark.slow
def test_a_trunk_is_not_taken_from_the_run_of_another_seed(tmp_path: Path, digits: Digits) -> None:
    trainer = Trainer.start(folder=tmp_path)
    train_regressor(KeypointNet(KeypointNetConfig()), digits, TINY, trainer=trainer)
    with pytest.raises(TrainingError, match="is of another training"):
        train_regressor(KeypointNet(KeypointNetConfig()), digits, dataclasses.replace(TINY, seed=1), trainer=trainer)


def test_effort_scales_the_epochs_but_never_to_none() -> None:
    assert TrainingConfig().scaled(0.5).trunk_epochs == TrainingConfig().trunk_epochs // 2
    assert TrainingConfig().scaled(1e-6).head_epochs == 1


def test_fewer_examples_than_a_batch_are_one_batch() -> None:
    data = observations((torch.rand(5, 2, 4, 4),), torch.rand(5))
    seen: list[int] = []
    head = build_loss_head(LossHeadConfig((2,)))
    train_loss_head(head, data, TINY, lambda _what, _done, total: seen.append(total))
    assert seen == [1]


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([1.0, float("nan"), float("inf")], "2 of 3 true losses are not finite"),
        ([1.0, -2.0, 3.0], "must not be negative, but one is -2"),
        ([0.0, 0.0, 0.0], "all 3 true losses are 0: there is nothing"),
        ([0.5, 0.5, 0.5], "all 3 true losses are 0.5: there is nothing"),
    ],
)
def test_losses_that_teach_nothing_are_refused_before_the_first_step(losses: list[float], message: str) -> None:
    head = build_loss_head(LossHeadConfig((2,)))
    before = weights(head)
    with pytest.raises(ValueError, match=message):
        train_loss_head(head, observations((torch.rand(3, 2, 4, 4),), torch.tensor(losses)), TINY)
    assert same(before, weights(head))


@pytest.mark.slow
def test_a_network_with_heatmaps_learns_photographs_that_lack_joints(pose_folder: Path) -> None:
    task = Pose(pose_folder)
    usual = recipe(task)
    with reproducible(0):
        net = usual.build(task)
    before = float(observe(net, task.examples("trunk"), task).losses.mean())
    train_regressor(net, task, dataclasses.replace(usual.config, trunk_epochs=8, batch_size=10, trunk_average=0.8))
    seen = observe(net, task.examples("trunk"), task)
    assert seen.losses.mean() < 0.9 * before
    assert seen.heatmaps is not None
    assert seen.heatmaps.shape == (50, 14, 32, 32)
    assert seen.predictions.shape == (50, 14, 2)
