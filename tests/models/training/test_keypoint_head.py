"""A keypoint head learns which keypoints and images are bad, from readings alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.evaluation.metrics import rank_correlation
from models.networks.heatmap_features import Readings
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead
from models.tasks.protocol import Examples
from models.training.keypoint_head import (
    KeypointObservations,
    KeypointTraining,
    mirrored,
    score_readings,
    train_keypoint_head,
)
from models.training.loop import Trainer, TrainingError

KEYPOINTS = 4


def observations(count: int = 512, seed: int = 0) -> KeypointObservations:
    """Losses whose mean is exp of the first column of `shape`; a tenth of the keypoints is not annotated."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(0, 0.7, (count, KEYPOINTS, 2)).astype(np.float32)
    losses = np.clip(0.2 * np.exp(shape[..., 0]) * rng.gamma(4, 0.25, (count, KEYPOINTS)), 0, 1)
    losses[rng.random(losses.shape) < 0.1] = np.nan
    losses[:, 0] = np.nan_to_num(losses[:, 0], nan=0.2)
    other = torch.zeros(count, KEYPOINTS, 1)
    parts = Readings(
        other.half(), torch.from_numpy(shape), other, other, torch.zeros(count, 1).half(), torch.zeros(count, 1)
    )
    return KeypointObservations(parts, torch.zeros(count, 2), np.zeros((count, KEYPOINTS, 2), np.float32), losses)


def trained(config: KeypointTraining, seen: KeypointObservations) -> KeypointLossHead:
    sizes = tuple(part.shape[-1] for part in seen.readings)
    torch.manual_seed(0)
    bounded = config.objective == "cross_entropy"
    head = KeypointLossHead(
        KeypointHeadConfig(sizes, KEYPOINTS, ((0, 1),), parts=("shape", "identity"), bounded=bounded)
    )
    train_keypoint_head(head, seen, config)
    return head


@pytest.mark.parametrize(
    ("objective", "over"),
    [
        ("learning_loss_pp_weighted", "both"),
        ("learning_loss_pp", "keypoints"),
        ("learning_loss", "images"),
        ("listwise", "both"),
        ("log_loss", "both"),
        ("gamma", "both"),
        ("cross_entropy", "both"),
    ],
)
def test_each_objective_learns_to_rank_images_it_has_not_seen(objective: str, over: str) -> None:
    config = KeypointTraining(objective=objective, over=over, epochs=6)  # type: ignore[arg-type] # names from the list
    head, unseen = trained(config, observations()), observations(seed=1)
    assert rank_correlation(score_readings(head, unseen.readings)[1].numpy(), unseen.losses) > 0.6


def test_scores_of_keypoints_are_logs_of_their_expected_losses_up_to_a_constant() -> None:
    head, unseen = trained(KeypointTraining(epochs=20), observations(2048)), observations(seed=1)
    scores = score_readings(head, unseen.readings)[0].flatten().numpy()
    slope = np.polyfit(unseen.readings.shape[..., 0].flatten().numpy(), scores, 1)[0]
    assert slope == pytest.approx(1, abs=0.15)


def test_the_same_seed_gives_the_same_head() -> None:
    config, seen = KeypointTraining(epochs=1), observations(128)
    first, second = (score_readings(trained(config, seen), seen.readings)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_losses_that_teach_nothing_are_refused() -> None:
    seen = observations(64)
    with pytest.raises(ValueError, match="nothing for a loss head to learn"):
        trained(KeypointTraining(), replace(seen, keypoint_losses=np.full_like(seen.keypoint_losses, 0.3)))


@pytest.mark.parametrize("change", [{"objective": "hope"}, {"over": "weekdays"}])
def test_an_unknown_objective_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"hope|weekdays"):
        trained(KeypointTraining(**change), observations(64))  # type: ignore[arg-type] # that is the point


def test_a_mirror_swaps_left_and_right_and_turns_the_picture_over() -> None:
    images = np.zeros((1, 4, 8, 3), np.uint8)
    images[0, :, 1] = 9
    targets = np.array([[[1.5, 2], [np.nan, np.nan]]], np.float32)
    one = Examples(images, targets, np.zeros(1, np.int64), np.zeros(1, np.int64))
    found = mirrored(one, ("left_hand", "right_hand"))
    assert found.images[0, 0, 6, 0] == 9
    assert np.isnan(found.targets[0, 0]).all()
    assert found.targets[0, 1].tolist() == [6.5, 2]
    assert one.targets[0, 0, 0] == 1.5


@pytest.mark.parametrize("change", [{"seed": 1}, {"objective": "gamma"}, {"over": "images"}])
def test_a_head_is_not_taken_from_the_run_of_another_seed_or_objective(tmp_path: Path, change: dict[str, Any]) -> None:
    trainer, brief, seen = Trainer.start(folder=tmp_path), KeypointTraining(epochs=1), observations(64)
    sizes = tuple(part.shape[-1] for part in seen.readings)
    head = KeypointLossHead(KeypointHeadConfig(sizes, KEYPOINTS, ((0, 1),), parts=("shape", "identity")))
    train_keypoint_head(head, seen, brief, trainer=trainer)
    with pytest.raises(TrainingError, match="is of another training"):
        train_keypoint_head(head, seen, replace(brief, **change), trainer=trainer)
