"""From a task to a bundle in its store: the offline line, step by step.

train the regressor -> train the loss head on what the regressor sees -> calibrate -> export -> evaluate
the files themselves -> publish and make live. Each step uses a split that no step before it has seen.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.calibration.data import CalibrationData
from models.calibration.guarantees import OperatingPoints, operating_points, score_grid
from models.calibration.loss_map import KeypointMaps, LossMap, fit_keypoint_maps, fit_loss_map
from models.calibration.ood import Gaussian, fit_gaussian
from models.calibration.references import CALIBRATION_SEED, References, references
from models.contract import bundle, manifest
from models.contract.runtime import load_runtime
from models.evaluation.bundle import evaluate_bundle
from models.networks.forecast_graph import ForecastGraph
from models.networks.heatmap import HeatmapNet
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead, reading_sizes
from models.networks.loss_head import LossHead, LossHeadConfig, build_loss_head
from models.networks.regressors import Regressor
from models.publishing.export import export_onnx, run_onnx
from models.publishing.model_card import model_card
from models.tasks.protocol import SPLITS, Examples, RegressionTask, Split, check_definition, check_examples
from models.training.keypoint_head import keypoint_task, learn_keypoint_losses, read_examples, score_readings
from models.training.loop import Engine, reproducible
from models.training.loss_head import (
    Progress,
    TrainingConfig,
    observe,
    silent,
    train_loss_head,
    train_regressor,
)
from models.training.recipes import recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished regressor and loss head, both in eval mode, and the reference of the OOD score."""

    regressor: Regressor
    head: LossHead | KeypointLossHead
    embeddings: Tensor  # [n, e] of the head split, which nothing but a head has learned from


def train_bundle(
    task: RegressionTask,
    store: Path,
    config: TrainingConfig | None = None,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> Path:
    """Trains a model for `task`, publishes it as the next version in `store`, makes it live; its folder.

    The version that was live becomes `previous`. Of the processes of a run on several devices the first
    publishes. Raises before the training rather than after it: RuntimeMissing, ValueError for a task or for data that
    nothing can be learned from, and BundleError when the store cannot take the version.
    """
    load_runtime()
    bundle.check_store(store, task.task.name)
    config, engine = config or recipe(task).config, engine or Engine.start()
    trained = train(task, config, progress, engine)
    folder = finish(task, store, config, trained, progress) if engine.fabric.is_global_zero else None
    return Path(engine.fabric.broadcast(str(folder)))


def finish(task: RegressionTask, store: Path, config: TrainingConfig, trained: Trained, progress: Progress) -> Path:
    """Calibrates, exports and publishes what was trained; the folder. Raises BundleError."""
    progress("calibrate and export", 0, 2)
    graph = ForecastGraph(trained.regressor, trained.head, *calibrate(trained, task))
    onnx = export_onnx(graph, task.preprocessing.canvas_shape)
    progress("calibrate and export", 1, 2)
    draft = describe(task, config, store, onnx, graph)
    folder = publish(task, store, draft, onnx, _network(trained, config))
    progress("calibrate and export", 2, 2)
    return folder


def train(
    task: RegressionTask, config: TrainingConfig, progress: Progress = silent, engine: Engine | None = None
) -> Trained:
    """The regressor on the trunk split, then the loss head on the head split (see `learn_keypoint_losses` for those
    that score keypoints); both end on the CPU.

    Raises ValueError as above, before the first epoch.
    """
    usual = recipe(task)
    _check(task, SPLITS)
    with reproducible(config.seed):
        regressor = usual.build(task)
        head = _fresh_head(regressor, task, config)
    engine = engine or Engine.start()
    train_regressor(regressor, task, config, progress, engine)
    return _with_head(head, regressor, task, config, progress, engine)


def train_head(
    regressor: Regressor,
    task: RegressionTask,
    config: TrainingConfig,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> Trained:
    """A loss head for a regressor that is finished, on the head split. Raises ValueError as above."""
    _check(task, SPLITS[1:])
    with reproducible(config.seed):
        head = _fresh_head(regressor, task, config)
    return _with_head(head, regressor, task, config, progress, engine or Engine.start())


def _check(task: RegressionTask, splits: Sequence[Split]) -> None:
    for split in splits:
        examples = task.examples(split)
        check_examples(examples, task.task, task.preprocessing, f"the {split} split of {task.task.name}")
        if split == "calibration":
            check_definition(task, examples)


def _with_head(  # noqa: PLR0913, PLR0917 - who learns, from whom, what, how, and where
    head: LossHead | KeypointLossHead,
    regressor: Regressor,
    task: RegressionTask,
    config: TrainingConfig,
    progress: Progress,
    engine: Engine,
) -> Trained:
    if isinstance(head, KeypointLossHead):
        embeddings = learn_keypoint_losses(head, regressor, task, config, progress, engine)
    else:
        head_data = observe(regressor, task.examples("head", config.head_views, config.seed), task)
        train_loss_head(head, head_data, config, progress, engine)
        embeddings = head_data.embeddings
    return Trained(regressor.cpu(), head.cpu(), embeddings)


def _fresh_head(regressor: Regressor, task: RegressionTask, config: TrainingConfig) -> LossHead | KeypointLossHead:
    if config.head != "keypoint":
        return build_loss_head(LossHeadConfig(regressor.map_channels, config.head))
    keypoints, limbs = len(task.task.names), task.task.skeleton
    if not isinstance(regressor, HeatmapNet) or not limbs or not hasattr(task, "true_keypoint_loss"):
        raise ValueError(
            f"a keypoint head needs heatmaps, a skeleton and a loss of every keypoint; task {task.task.name!r} lacks "
            "some of these: choose the convolutional or the pooled head"
        )
    sizes = reading_sizes(regressor.map_channels, regressor.embedding_size, keypoints, len(limbs))
    return KeypointLossHead(KeypointHeadConfig(sizes, keypoints, limbs))


def calibrate(trained: Trained, task: RegressionTask) -> tuple[LossMap, Gaussian, KeypointMaps | None]:
    """Loss maps of images, and of keypoints where they have scores, from the calibration split; the embeddings'
    reference, between the two, from the head split.
    """
    examples = task.examples("calibration", task.calibration_views, CALIBRATION_SEED)
    reference = fit_gaussian(trained.embeddings.numpy())
    if isinstance(trained.head, KeypointLossHead):
        seen = read_examples(trained.regressor, examples, keypoint_task(task))
        keypoints, images = (scores.numpy() for scores in score_readings(trained.head, seen.readings))
        return fit_loss_map(images, seen.losses), reference, fit_keypoint_maps(keypoints, seen.keypoint_losses)
    plain = observe(trained.regressor, examples, task)
    with torch.no_grad():
        scores = trained.head(plain.maps).numpy()
    return fit_loss_map(scores, plain.losses), reference, None


def describe(
    task: RegressionTask, config: TrainingConfig, store: Path, onnx: bytes, graph: ForecastGraph
) -> manifest.Manifest:
    """The manifest, but for its evaluation. Thresholds and references come from the ONNX that ships.

    References take the first view of every calibration source, as their counts are of independent draws.
    """
    seen = task.examples("calibration", task.calibration_views, CALIBRATION_SEED)
    outputs = run_onnx(onnx, seen.images)
    data = _calibration_data(task, seen, outputs)
    found = _promises(task, config, onnx, data)
    drift = _references(seen, outputs, data.first_views)
    name = task.task.name
    return manifest.Manifest(
        model=name,
        version=str(bundle.next_version(store / name)),
        task=task.task,
        preprocessing=task.preprocessing,
        loss=task.loss,
        embedding_size=graph.regressor.embedding_size,
        keypoint_loss="keypoint_loss" in graph.outputs,
        operating_points=found.points,
        refused_operating_points=found.refused,
        default_operating_point="budget",
        drift_reference=drift.drift,
        loss_reference=drift.losses,
        embedding_reference=drift.embeddings,
        evaluation={},
        provenance=manifest.Provenance(
            task=name,
            data_fingerprint=task.fingerprint,
            seed=config.seed,
            code_version=f"losscast {package_version('losscast')}",
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            split_sizes={split: len(task.examples(split)) for split in SPLITS},
        ),
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
    )


def _references(seen: Examples, outputs: Mapping[str, NDArray[np.float32]], first: NDArray[np.intp]) -> References:
    sizes = None if seen.sizes is None else seen.sizes[first]
    return references({name: column[first] for name, column in outputs.items()}, seen.images[first], sizes)


def _calibration_data(
    task: RegressionTask, seen: Examples, outputs: Mapping[str, NDArray[np.float32]]
) -> CalibrationData:
    """The calibration split as the ONNX answers it, every view of it."""
    losses = task.true_loss(outputs["prediction"], seen.targets)
    return CalibrationData.of(outputs["score"], outputs["ood_score"], losses, task.loss, seen.source)


def _promises(task: RegressionTask, config: TrainingConfig, onnx: bytes, data: CalibrationData) -> OperatingPoints:
    """The thresholds that selective risk tries come from the head split: not from the data that test them."""
    tried = run_onnx(onnx, task.examples("head", 1, config.seed).images)["score"]
    return operating_points(data, score_grid(tried))


def publish(task: RegressionTask, store: Path, draft: manifest.Manifest, onnx: bytes, network: str) -> Path:
    """Evaluates the bundle from its own files, then publishes it with its figures and makes it live."""
    with tempfile.TemporaryDirectory() as staging:
        figures = evaluate_bundle(bundle.publish(Path(staging), draft, {"model.onnx": onnx}), task)
    final = draft.model_copy(update={"evaluation": figures})
    card = model_card(final, task.card, network).encode()
    folder = bundle.publish(store, final, {"model.onnx": onnx, "model_card.md": card})
    bundle.make_live(folder)
    return folder


def _network(trained: Trained, config: TrainingConfig) -> str:
    regressor, head = (_parameters(module) for module in (trained.regressor, trained.head))
    return (
        f"A network of {regressor:,} parameters {trained.regressor.summary}, and a {config.head}\n"
        f"loss head of {head:,} parameters trained with {config.objective} on its frozen feature maps."
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
