from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.networks.regressors import Regressor
from models.refinement.config import RefinementConfig
from models.refinement.dataset import load_split
from models.refinement.head import Taught, refit_head
from models.refinement.learner import RecipeLearner
from models.refinement.refined_task import as_examples, rows_of
from models.refinement.trunk import predictions, tune
from models.refinement.weights import copied
from models.tasks.digits import Digits
from models.tasks.pose import Pose
from models.tasks.protocol import Split
from models.training.config import TrainingConfig, silent
from models.training.loop import Trainer
from models.training.recipes import recipe

ROOT = Path(__file__).resolve().parents[3]


class FewPhotographs(Pose):
    def sources(self, split: Split) -> NDArray[np.int64]:
        return super().sources(split)[:6]


@pytest.fixture(scope="module")
def pose(pose_folder: Path) -> Pose:
    return FewPhotographs(pose_folder)


@pytest.fixture(scope="module")
def athlete(pose: Pose) -> Regressor:
    """The regressor of the shipped pose model."""
    return RecipeLearner(pose).parent(ROOT / "bundles" / "pose" / "1")


def test_the_decoder_of_the_shipped_pose_model_learns_new_labels(pose: Pose) -> None:
    regressor = RecipeLearner(pose).parent(ROOT / "bundles" / "pose" / "1")
    before = copied(regressor)
    new = rows_of(pose.examples("head"), np.arange(len(pose.examples("head"))) < 2)
    config = RefinementConfig(arm="decoder", steps=1, pairs=2)
    tune(regressor, pose, new, config, "fine-tune", silent, Trainer.start())
    moved = {
        name.split(".")[0] for name, value in regressor.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"across", "up", "heatmaps"}


def test_a_keypoint_head_learns_from_new_labels_and_their_mirror_images(pose: Pose, athlete: Regressor) -> None:
    asked: list[NDArray[np.uint8]] = []

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(images)
        return predictions(athlete, images)

    new = replace(pose.examples("test"), source=pose.examples("test").source + 10_000)
    config = replace(recipe(pose).config, head_epochs=1)
    trained = refit_head(athlete, pose, Taught(new, predict), config, silent, Trainer.start())
    assert len(trained.embeddings) == len(pose.examples("head")) + len(new)
    assert [len(images) for images in asked] == [len(new)] * 2
    assert np.array_equal(asked[1], new.images[:, :, ::-1])


def test_losses_from_folds_take_the_place_of_the_trunks_own(
    parent: Path, few_digits: Digits, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = as_examples(load_split(snapshot, "train", few_digits.task, few_digits.preprocessing), 5000)
    seen: list[NDArray[np.float64]] = []
    monkeypatch.setattr(
        "models.refinement.head.train_loss_head", lambda _head, observations, *_: seen.append(observations.losses)
    )
    regressor = RecipeLearner(few_digits).parent(parent)
    taught = Taught(new, lambda _images: new.targets + 3)
    refit_head(regressor, few_digits, taught, TrainingConfig.tiny(), silent, Trainer.start())
    assert np.allclose(seen[0][-len(new) :], 3 * np.sqrt(2), rtol=1e-5)
