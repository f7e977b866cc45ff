from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.refinement.config import RefinementConfig
from models.refinement.dataset import load_split
from models.refinement.learner import RecipeLearner
from models.refinement.refined_task import as_examples, refined_task
from models.refinement.trunk import _best, _pairs, choose_mixture, tune
from models.refinement.weights import copied
from models.tasks.digits import Digits
from models.training.config import silent
from models.training.loop import Trainer


def test_every_new_image_comes_with_an_old_one(snapshot: Path, few_digits: Digits, quick: RefinementConfig) -> None:
    new = as_examples(load_split(snapshot, "train", few_digits.task, few_digits.preprocessing), 5000)
    pool = few_digits.examples("trunk")
    images, targets = _pairs(pool, new, 48, quick, 0)
    assert images.shape == (48, 2, 64, 64, 1)
    assert targets.shape == (48, 2, 4, 2)
    first = {image.tobytes() for image in images[:, 0].numpy()}
    assert first == {image.tobytes() for image in new.images}  # 24 labels, each twice
    old = {image.tobytes() for image in pool.images}
    assert all(image.tobytes() in old for image in images[:, 1].numpy())


def test_the_placebo_replays_old_images_in_place_of_new_ones(few_digits: Digits, quick: RefinementConfig) -> None:
    pool = few_digits.examples("trunk")
    images, _ = _pairs(pool, None, 16, quick, 0)
    old = {image.tobytes() for image in pool.images}
    assert all(image.tobytes() in old for image in images.flatten(0, 1).numpy())


def test_labels_with_missing_joints_teach_the_others(snapshot: Path, few_digits: Digits, parent: Path) -> None:
    labelled = load_split(snapshot, "train", few_digits.task, few_digits.preprocessing)
    targets = labelled.targets.copy()
    targets[:, 0] = np.nan
    new = as_examples(replace(labelled, targets=targets), 5000)
    regressor = RecipeLearner(few_digits).parent(parent)
    before = copied(regressor)
    tune(regressor, few_digits, new, RefinementConfig(steps=2, pairs=4), "fine-tune", silent, Trainer.start())
    after = copied(regressor)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not torch.equal(after["votes.weight"], before["votes.weight"])
    assert torch.equal(after["fine.1.running_mean"], before["fine.1.running_mean"])


def test_a_mixture_that_is_no_better_leaves_the_parent(
    few_digits: Digits, parent: Path, quick: RefinementConfig, snapshot: Path
) -> None:
    regressor = RecipeLearner(few_digits).parent(parent)
    before = copied(regressor)
    with torch.no_grad():
        regressor.get_parameter("votes.bias").add_(0.5)  # worse
    audit = load_split(snapshot, "calibrate", few_digits.task, few_digits.preprocessing)
    task = refined_task(few_digits, audit, "f" * 64)
    chosen = choose_mixture(regressor, before, task, quick, lambda *_: None)
    assert chosen.share == 0
    assert chosen.losses[0.5] > chosen.losses[0.0]
    assert all(torch.equal(value, before[name]) for name, value in regressor.state_dict().items())


def test_labels_that_are_noise_leave_the_parent(snapshot: Path, few_digits: Digits, parent: Path) -> None:
    labelled = load_split(snapshot, "train", few_digits.task, few_digits.preprocessing)
    noise = np.random.default_rng(0).uniform(0, 64, labelled.targets.shape).astype(np.float32)
    regressor = RecipeLearner(few_digits).parent(parent)
    before = copied(regressor)
    config = RefinementConfig(steps=20, pairs=8)
    new = as_examples(replace(labelled, targets=noise), 5000)
    tune(regressor, few_digits, new, config, "fine-tune", silent, Trainer.start())
    assert not torch.equal(copied(regressor)["votes.bias"], before["votes.bias"])
    audit = load_split(snapshot, "unused", few_digits.task, few_digits.preprocessing)  # none
    chosen = choose_mixture(regressor, before, refined_task(few_digits, audit, "f" * 64), config, lambda *_: None)
    assert chosen.share == 0
    assert chosen.losses[1.0] > chosen.losses[0.0]


@pytest.mark.parametrize(("gain", "share"), [(0.5, 1.0), (0.0, 0.0), (0.01, 0.0)])
def test_a_mixture_must_beat_the_parent_by_more_than_chance(gain: float, share: float) -> None:
    parent = np.random.default_rng(0).uniform(1, 3, 100)
    noise = np.random.default_rng(1).normal(0, 0.3, 100)
    assert _best({0.0: parent, 1.0: parent - gain + noise - noise.mean()}, 100, 0.01) == share


def test_a_mixture_that_forgets_the_old_images_is_no_choice() -> None:
    parent = np.random.default_rng(0).uniform(1, 3, 100)
    old, new = np.arange(100) < 50, np.arange(100) >= 50
    losses = {share: parent + 0.1 * share * old - share * new for share in (0.0, 0.1, 1.0)}
    assert _best(losses, 50, 0.01) == 0.1
