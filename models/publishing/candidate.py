"""A candidate: a trained and exported model before it becomes a version.

Thresholds and references are computed from the ONNX that ships, not from the network in memory, so they fit the numbers
that a service gets.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.calibration.data import CalibrationData
from models.calibration.guarantees import operating_points, score_grid
from models.calibration.references import CALIBRATION_SEED, References, references
from models.contract.manifest import Manifest, Provenance
from models.networks.forecast_graph import ForecastGraph
from models.publishing.export import run_onnx
from models.tasks.protocol import SPLITS, Examples, RegressionTask
from models.training.config import TrainingConfig

UNPUBLISHED: Final = "candidate"  # the version of a candidate; publishing replaces it by a number


@dataclass(frozen=True, slots=True)
class Candidate:
    """The contents of a version's files, without its number and its figures."""

    onnx: bytes
    manifest: Manifest  # its version is `UNPUBLISHED`, its evaluation is empty
    network: str  # a sentence that describes the network, for the model card


def make_candidate(graph: ForecastGraph, onnx: bytes, task: RegressionTask, config: TrainingConfig) -> Candidate:
    """onnx: the export of `graph`. Raises ValueError when the calibration split is too small for the flag budget."""
    return Candidate(onnx, _manifest(onnx, task, config), _network(graph, config))


def candidate_of_graph(onnx: bytes, network: str, task: RegressionTask, config: TrainingConfig) -> Candidate:
    """A graph that another program made, with thresholds and references from the calibration split.

    network: a sentence that describes it. Raises ValueError as `make_candidate`.
    """
    return Candidate(onnx, _manifest(onnx, task, config), network)


def _manifest(onnx: bytes, task: RegressionTask, config: TrainingConfig) -> Manifest:
    """References take the first view of every calibration source, as their counts are of independent draws."""
    seen = task.examples("calibration", task.calibration_views, CALIBRATION_SEED)
    outputs = run_onnx(onnx, seen.images)
    losses = task.true_loss(outputs["prediction"], seen.targets)
    data = CalibrationData.of(outputs["score"], outputs["ood_score"], losses, task.loss, seen.source)
    # The thresholds that selective risk tries come from the head split, not from the data that test them.
    tried = run_onnx(onnx, task.examples("head", 1, config.seed).images)["score"]
    promised = operating_points(data, score_grid(tried))
    drift = _references(seen, outputs, data.first_views)
    return Manifest(
        model=task.task.name,
        version=UNPUBLISHED,
        task=task.task,
        preprocessing=task.preprocessing,
        loss=task.loss,
        embedding_size=outputs["embedding"].shape[1],
        keypoint_loss="keypoint_loss" in outputs,
        operating_points=promised.points,
        refused_operating_points=promised.refused,
        default_operating_point="budget",
        drift_reference=drift.drift,
        loss_reference=drift.losses,
        embedding_reference=drift.embeddings,
        evaluation={},
        provenance=_provenance(task, config),
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
    )


def _references(seen: Examples, outputs: Mapping[str, NDArray[np.float32]], first: NDArray[np.intp]) -> References:
    sizes = None if seen.sizes is None else seen.sizes[first]
    return references({name: column[first] for name, column in outputs.items()}, seen.images[first], sizes)


def _provenance(task: RegressionTask, config: TrainingConfig) -> Provenance:
    return Provenance(
        task=task.task.name,
        data_fingerprint=task.fingerprint,
        seed=config.seed,
        code_version=f"losscast {package_version('losscast')}",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        split_sizes={split: len(task.examples(split)) for split in SPLITS},
    )


def _network(graph: ForecastGraph, config: TrainingConfig) -> str:
    regressor, head = (_parameters(module) for module in (graph.regressor, graph.head))
    return (
        f"A network of {regressor:,} parameters {graph.regressor.summary}, and a {config.head}\n"
        f"loss head of {head:,} parameters trained with {config.objective} on its frozen feature maps."
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
