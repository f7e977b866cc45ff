"""The offline line: from a task to a live version in a bundle store.

train the regressor -> train the loss head on its outputs -> calibrate -> export -> evaluate | publish | go live

The last three are separate steps: a candidate can stop after any of them. Each step uses a split that no step before
it has seen.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.calibration.loss_map import fit_keypoint_maps, fit_loss_map
from models.calibration.ood import fit_gaussian
from models.calibration.references import CALIBRATION_SEED
from models.contract import bundle
from models.contract.index import check_store
from models.contract.live import make_live
from models.contract.runtime import load_runtime
from models.evaluation.bundle import evaluate_bundle
from models.networks.forecast_graph import ForecastGraph
from models.networks.keypoint_head import KeypointLossHead
from models.networks.regressors import Regressor
from models.publishing.candidate import Candidate, make_candidate
from models.publishing.export import export_onnx
from models.publishing.model_card import model_card
from models.tasks.protocol import SPLITS, RegressionTask, Split, check_definition, check_examples
from models.training.config import Progress, TrainingConfig, silent
from models.training.heads import AnyHead, build_head, train_any_head
from models.training.keypoint_head import keypoint_task, read_examples, score_readings
from models.training.loop import Trainer, reproducible
from models.training.loss_head import observe
from models.training.recipes import recipe
from models.training.regressor import train_regressor

FINISHING = "calibrate and export"  # as progress calls everything after the training


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished regressor and loss head, both in eval mode on the CPU, and the reference of the OOD score."""

    regressor: Regressor
    head: AnyHead
    embeddings: Tensor  # [n, e] of the head split; only the loss head has learned from these images


def train_bundle(
    task: RegressionTask,
    store: Path,
    config: TrainingConfig | None = None,
    progress: Progress = silent,
    trainer: Trainer | None = None,
) -> Path:
    """Trains a model for `task`, publishes it as the next version in `store` and makes it live; returns its folder.

    The version that was live becomes `previous`. In a run on several devices only the first process publishes. Raises
    before the training, not after it: RuntimeMissing, ValueError for a task or data that nothing can be learned from,
    and BundleError when the store cannot take the version.
    """
    load_runtime()
    check_store(store, task.task.name)
    config, trainer = config or recipe(task).config, trainer or Trainer.start()
    trained = train(task, config, progress, trainer)
    folder = finish_bundle(trained, task, store, config, progress) if trainer.fabric.is_global_zero else None
    return Path(trainer.fabric.broadcast(str(folder)))


def finish_bundle(
    trained: Trained, task: RegressionTask, store: Path, config: TrainingConfig, progress: Progress
) -> Path:
    """Takes a trained model through all steps after the training; returns the folder of the version, which is live.

    Raises BundleError when the store cannot take it.
    """
    progress(FINISHING, 0, 2)
    graph = calibrate(trained, task)
    onnx = export_onnx(graph, task.preprocessing.canvas_shape)
    progress(FINISHING, 1, 2)
    candidate = make_candidate(graph, onnx, task, config)
    folder = publish(candidate, evaluate(candidate, task), task, store)
    go_live(folder)
    progress(FINISHING, 2, 2)
    return folder


def train(
    task: RegressionTask, config: TrainingConfig, progress: Progress = silent, trainer: Trainer | None = None
) -> Trained:
    """The regressor on the trunk split, then the loss head on the head split.

    A keypoint head also learns from the trunk split: see `learn_keypoint_losses`. Raises ValueError as `train_bundle`,
    before the first epoch.
    """
    usual = recipe(task)
    _check(task, SPLITS)
    with reproducible(config.seed):
        regressor = usual.build(task)
        head = build_head(regressor, task, config)
    trainer = trainer or Trainer.start()
    train_regressor(regressor, task, config, progress, trainer)
    embeddings = train_any_head(head, regressor, task, config, progress, trainer)
    return Trained(regressor.cpu(), head.cpu(), embeddings)


def train_head(
    regressor: Regressor,
    task: RegressionTask,
    config: TrainingConfig,
    progress: Progress = silent,
    trainer: Trainer | None = None,
) -> Trained:
    """A loss head for a regressor that is finished, on the head split. Raises ValueError as `train_bundle`."""
    _check(task, SPLITS[1:])
    with reproducible(config.seed):
        head = build_head(regressor, task, config)
    embeddings = train_any_head(head, regressor, task, config, progress, trainer or Trainer.start())
    return Trained(regressor.cpu(), head.cpu(), embeddings)


def _check(task: RegressionTask, splits: Sequence[Split]) -> None:
    for split in splits:
        examples = task.examples(split)
        check_examples(examples, task.task, task.preprocessing, f"the {split} split of {task.task.name}")
        if split == "calibration":
            check_definition(task, examples)


def calibrate(trained: Trained, task: RegressionTask) -> ForecastGraph:
    """The whole forecast as one module, with the maps from scores to losses and the distance of the OOD score.

    The calibration split fits the map of images, and those of keypoints where the head scores them. The head split is
    the reference of the embeddings.
    """
    examples = task.examples("calibration", task.calibration_views, CALIBRATION_SEED)
    reference = fit_gaussian(trained.embeddings.numpy())
    if isinstance(trained.head, KeypointLossHead):
        seen = read_examples(trained.regressor, examples, keypoint_task(task))
        keypoints, images = (scores.numpy() for scores in score_readings(trained.head, seen.readings))
        maps = fit_loss_map(images, seen.losses), reference, fit_keypoint_maps(keypoints, seen.keypoint_losses)
        return ForecastGraph(trained.regressor, trained.head, *maps)
    observations = observe(trained.regressor, examples, task)
    with torch.no_grad():
        scores = trained.head(observations.maps).numpy()
    return ForecastGraph(trained.regressor, trained.head, fit_loss_map(scores, observations.losses), reference)


def evaluate(candidate: Candidate, task: RegressionTask) -> dict[str, float]:
    """The figures of the candidate on the task's test split, measured on its files. Nothing is published."""
    files = {"model.onnx": candidate.onnx}
    with tempfile.TemporaryDirectory() as staging:
        return evaluate_bundle(bundle.publish(Path(staging), candidate.manifest, files), task)


def publish(candidate: Candidate, figures: Mapping[str, float], task: RegressionTask, store: Path) -> Path:
    """Writes the candidate as the next version in `store`; returns its folder. The live version stays live.

    figures: as `evaluate` measured them. Raises BundleError when another process publishes the same version first.
    """
    number = bundle.next_version(store / candidate.manifest.model)
    manifest = candidate.manifest.model_copy(update={"version": str(number), "evaluation": dict(figures)})
    card = model_card(manifest, task.card, candidate.network).encode()
    return bundle.publish(store, manifest, {"model.onnx": candidate.onnx, "model_card.md": card})


def go_live(folder: Path) -> None:
    """Makes the published version in `folder` the one that is served; the one before it becomes `previous`.

    Raises BundleError when the store or the version is damaged.
    """
    make_live(folder)
