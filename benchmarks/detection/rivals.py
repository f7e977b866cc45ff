"""Every score that is compared, trained where it learns, on splits that a trunk has seen.

`Seen` of the training splits -> a scorer of `Seen` -> scores, kept beside the features. All heads learn from the
same images, those of `train` and their mirror images, the references of distances from the held-out fold alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.detection.baselines import LocalScaleHead, disagreement, gaussian_likelihood, nearest_distance
from benchmarks.detection.features import Seen
from models.calibration.ood import fit_gaussian
from models.networks.heatmap_features import ENTROPY, EXPECTED
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead
from models.networks.loss_head import Architecture, LossHeadConfig, build_loss_head
from models.objectives.learning_loss import Objective
from models.training.config import TrainingConfig
from models.training.keypoint_head import KeypointTraining, score_readings, train_keypoint_head
from models.training.loop import Plan, Trainer, fit, reproducible
from models.training.loss_head import Observations, train_loss_head

Array = NDArray[np.float64]


class Scores(NamedTuple):
    """Higher is worse."""

    images: Array  # [n]
    keypoints: Array | None = None  # [n, k]


Scorer = Callable[[Seen], Scores]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the scorers of one trunk are made from."""

    training: Seen  # images that heads learn from
    held_out: Seen  # those of them that the trunk has not seen
    map_channels: tuple[int, ...]
    limbs: tuple[tuple[int, int], ...]
    epochs: float = 1.0  # times the usual number


SHIPPED = "keypoint head"
PASSES = "several passes"
# name -> what it is; in the order of the tables
LEARNED: Mapping[str, KeypointTraining | tuple[Architecture, Objective] | None] = {
    SHIPPED: KeypointTraining(),
    "keypoint head, LearningLoss++": KeypointTraining(objective="learning_loss_pp"),
    "keypoint head, LearningLoss++ of keypoints": KeypointTraining(objective="learning_loss_pp", over="keypoints"),
    "keypoint head, LearningLoss++ of images": KeypointTraining(objective="learning_loss_pp", over="images"),
    "keypoint head, listwise": KeypointTraining(objective="listwise"),
    "keypoint head, Learning Loss of images": KeypointTraining(objective="learning_loss", over="images"),
    "keypoint head, log-loss regression": KeypointTraining(objective="log_loss"),
    "keypoint head, Gamma likelihood": KeypointTraining(objective="gamma"),
    "keypoint head, cross-entropy": KeypointTraining(objective="cross_entropy"),
    "convolutional head, LearningLoss++": ("convolutional", "learning_loss_pp"),
    "pooled head, LearningLoss++": ("pooled", "learning_loss_pp"),
    "pooled head, Learning Loss": ("pooled", "learning_loss"),
    "heteroscedastic head": None,
}
UNLEARNED = (
    "heatmap peak, mean",
    "heatmap peak, least",
    "heatmap entropy",
    "expected loss of the heatmap",
    "Mahalanobis distance",
    "nearest neighbours",
)
COSTLY = ("dropout, 20 passes", "mirror, 2 passes")
ENSEMBLE = "ensemble of the trunks"
CORRUPTIBLE = (SHIPPED, "pooled head, LearningLoss++", *UNLEARNED)


def learned(name: str, setting: Setting, seed: int) -> Scorer:
    """Trains the scorer `name` of `LEARNED` from `seed`."""
    what = LEARNED[name]
    if what is None:
        return _heteroscedastic(setting, seed)
    if isinstance(what, KeypointTraining):
        return _keypoint(what, setting, seed)
    return _head(*what, setting, seed)


def unlearned(name: str, setting: Setting) -> Scorer:
    """The scorer `name` of `UNLEARNED`."""
    reference = embeddings(setting.held_out, setting)
    gaussian = fit_gaussian(reference)
    scorers: dict[str, Scorer] = {
        "heatmap peak, mean": lambda seen: Scores(1 - _peaks(seen).mean(axis=1), 1 - _peaks(seen)),
        "heatmap peak, least": lambda seen: Scores(1 - _peaks(seen).min(axis=1), 1 - _peaks(seen)),
        "heatmap entropy": lambda seen: Scores(_entropies(seen).mean(axis=1), _entropies(seen)),
        "expected loss of the heatmap": lambda seen: Scores(_expected(seen).mean(axis=1), _expected(seen)),
        "Mahalanobis distance": lambda seen: Scores(gaussian.distance(embeddings(seen, setting)).astype(np.float64)),
        "nearest neighbours": lambda seen: Scores(nearest_distance(embeddings(seen, setting), reference)),
    }
    return scorers[name]


def costly(name: str, plain: Seen, mirrored: Seen, order: Sequence[int], width: int) -> Scores:
    """The scorers of `COSTLY`, which look at an image more than once."""
    if name == COSTLY[0]:
        return Scores(disagreement(plain.dropout.numpy()))
    back = mirrored.predictions.numpy()[:, list(order)]
    back[..., 0] = width - back[..., 0]
    return Scores(disagreement(np.stack([plain.predictions.numpy(), back])))


def embeddings(seen: Seen, setting: Setting) -> NDArray[np.float32]:
    """The embedding stands behind the pooled maps."""
    return seen.readings.context[:, sum(setting.map_channels) :].float().numpy()


def kept(path: Path, make: Callable[[], Mapping[str, Scores]]) -> Mapping[str, Scores]:
    """Scores by split, from `path` or made and put there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {}
        for split, scores in make().items():
            columns[f"{split}|images"] = scores.images
            if scores.keypoints is not None:
                columns[f"{split}|keypoints"] = scores.keypoints
        scratch = path.with_suffix(".part.npz")
        np.savez(scratch, **columns)  # type: ignore[arg-type] # its stub takes the keywords for options
        scratch.replace(path)
    with np.load(path) as found:
        splits = dict.fromkeys(name.split("|")[0] for name in found.files)
        return {split: Scores(found[f"{split}|images"], found.get(f"{split}|keypoints")) for split in splits}


def _keypoint(training: KeypointTraining, setting: Setting, seed: int) -> Scorer:
    config = KeypointTraining(seed, training.objective, training.over, max(1, round(training.epochs * setting.epochs)))
    head = keypoint_head(setting.training, setting.limbs, config)
    return lambda seen: _numbers(head, seen)


def keypoint_head(
    training: Seen, limbs: tuple[tuple[int, int], ...], config: KeypointTraining, **changes: object
) -> KeypointLossHead:
    """A head of `changes` to the usual `KeypointHeadConfig`, trained."""
    sizes = tuple(part.shape[-1] for part in training.readings)
    bounded = config.objective == "cross_entropy"
    usual = {"sizes": sizes, "keypoints": training.predictions.shape[1], "limbs": limbs, "bounded": bounded}
    with reproducible(config.seed):
        head = KeypointLossHead(KeypointHeadConfig(**(usual | changes)))  # type: ignore[arg-type] # fields by name
    train_keypoint_head(head, training.observations, config)
    return head


def _numbers(head: KeypointLossHead, seen: Seen) -> Scores:
    keypoints, images = score_readings(head, seen.readings)
    return Scores(images.double().numpy(), keypoints.double().numpy())


def _head(architecture: Architecture, objective: Objective, setting: Setting, seed: int) -> Scorer:
    def maps(seen: Seen) -> tuple[torch.Tensor, ...]:
        if architecture == "convolutional":
            return tuple(one.float() for one in seen.maps)
        pooled = seen.readings.context[:, : sum(setting.map_channels)].float()
        return tuple(one[..., None, None] for one in torch.split(pooled, list(setting.map_channels), dim=1))

    def score(seen: Seen) -> Scores:
        with torch.no_grad():
            return Scores(head(maps(seen)).double().numpy())

    channels = setting.map_channels[-2:] if architecture == "convolutional" else setting.map_channels
    with reproducible(seed):
        head = build_loss_head(LossHeadConfig(channels, architecture))
    config = TrainingConfig(
        seed, objective, architecture, batch_size=64, head_epochs=max(1, round(HEAD_EPOCHS * setting.epochs))
    )
    learn = setting.training
    nothing = torch.zeros(len(learn.losses), 1)
    train_loss_head(head, Observations(maps(learn), nothing, learn.losses, learn.predictions.numpy()), config)
    return score


HEAD_EPOCHS = 6  # of heads that score images alone


def _heteroscedastic(setting: Setting, seed: int) -> Scorer:
    """The frozen trunk's error scale, learned from the maps at the predicted place; score: its mean."""
    learn = setting.training
    with reproducible(seed):
        head = LocalScaleHead(learn.readings.local.shape[2], learn.predictions.shape[1])
    plan = Plan("heteroscedastic", len(learn.losses), max(1, round(HEAD_EPOCHS * setting.epochs)), 64, 2e-3, 1e-2)

    def loss(model: torch.nn.Module, local: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
        return gaussian_likelihood(model(local.float()), errors)

    with reproducible(seed):
        fit(head, lambda _epoch: (learn.readings.local, learn.keypoint_losses), loss, plan, Trainer.start(), _quiet)
    head.eval()

    def score(seen: Seen) -> Scores:
        with torch.no_grad():
            scales = head(seen.readings.local.float()).double().exp().numpy()
        return Scores(scales.mean(axis=1), scales)

    return score


def _quiet(_done: int, _total: int) -> None:
    """No progress of a training of seconds."""


def _peaks(seen: Seen) -> Array:
    return seen.readings.shape[:, :, 0].double().exp().numpy()


def _expected(seen: Seen) -> Array:
    return np.asarray(np.exp(seen.readings.shape[:, :, EXPECTED].double().numpy()))


def _entropies(seen: Seen) -> Array:
    return seen.readings.shape[:, :, ENTROPY].double().numpy()
