import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.networks.loss_head import LossHeadConfig, build_loss_head
from models.networks.regressors import KeypointNet, normalise
from models.objectives.learning_loss import OBJECTIVES, Objective
from models.tasks.digits import Digits
from models.training.config import TrainingConfig
from models.training.loop import Trainer, TrainingError, reproducible
from models.training.loss_head import Observations, observe, train_loss_head

TINY = TrainingConfig.tiny()


@pytest.fixture(scope="module")
def head_data(regressor: KeypointNet, digits: Digits) -> Observations:
    return observe(regressor, digits.examples("head"), digits)


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


def test_the_same_seed_gives_the_same_head_and_another_gives_another(head_data: Observations) -> None:
    head = weights(trained_head(head_data, TINY))
    assert same(head, weights(trained_head(head_data, TINY)))
    assert not same(head, weights(trained_head(head_data, dataclasses.replace(TINY, seed=1))))


def test_predictions_are_bit_identical_with_and_without_a_head(digits: Digits, regressor: KeypointNet) -> None:
    images = normalise(torch.from_numpy(digits.examples("test").images[:32]))
    before, state = regressor(images), weights(regressor)
    trained_head(observe(regressor, digits.examples("head"), digits), TINY)
    after = regressor(images)
    assert same(state, weights(regressor))
    assert torch.equal(before.prediction, after.prediction)
    assert torch.equal(before.embedding, after.embedding)


def test_the_inputs_of_the_head_carry_no_gradient(head_data: Observations) -> None:
    assert not any(tensor.requires_grad for tensor in (*head_data.maps, head_data.embeddings))


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_a_head_learns_to_rank_losses_that_its_maps_contain(objective: Objective) -> None:
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
def test_losses_that_a_head_cannot_learn_from_are_refused_before_the_first_step(
    losses: list[float], message: str
) -> None:
    head = build_loss_head(LossHeadConfig((2,)))
    before = weights(head)
    with pytest.raises(ValueError, match=message):
        train_loss_head(head, observations((torch.rand(3, 2, 4, 4),), torch.tensor(losses)), TINY)
    assert same(before, weights(head))
