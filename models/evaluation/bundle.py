"""Evaluates a bundle from its own files: its ONNX predicts the test split of its task, and the report measures it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contract.bundle import BundleError, read_manifest, read_onnx
from models.contract.manifest import Manifest
from models.contract.runtime import open_session
from models.evaluation.metrics import Array
from models.evaluation.report import report
from models.tasks.protocol import Examples, RegressionTask

TEST_SEED = 0  # fixed, so that figures of different bundles compare
BATCH = 64


def evaluate_bundle(folder: Path, task: RegressionTask) -> dict[str, float]:
    """The report of the version in `folder` on the task's test split, from its ONNX alone.

    Raises BundleError when the bundle is damaged or was made for another task.
    """
    test = _test(task)
    manifest, outputs = run_bundle(folder, task, test)
    point = manifest.operating_points[manifest.default_operating_point]
    flags = point.flags(outputs["score"].astype(np.float64), outputs["ood_score"].astype(np.float64))
    return report(
        outputs["score"],
        task.true_loss(outputs["prediction"], test.targets),
        test.stratum,
        manifest.loss.failure_level,
        outputs["predicted_loss"],
        np.logical_or.reduce(list(flags.values())),
        test.source,
    )


def true_losses(folder: Path, task: RegressionTask) -> Array:
    """What the version in `folder` is off by on every example of the test split, [n]; raises as `evaluate_bundle`."""
    test = _test(task)
    _, outputs = run_bundle(folder, task, test)
    return task.true_loss(outputs["prediction"], test.targets)


def run_bundle(
    folder: Path, task: RegressionTask, examples: Examples
) -> tuple[Manifest, dict[str, NDArray[np.float32]]]:
    """The manifest of the version in `folder`, and what its ONNX says to examples of the task; raises as above."""
    manifest = read_manifest(folder)
    if manifest.task != task.task or manifest.preprocessing != task.preprocessing:
        raise BundleError(
            f"{folder} was made for another task than this {task.task.name!r}: points, units or canvas differ; "
            "evaluate it on its own task, or train it again"
        )
    return manifest, _run(read_onnx(folder, manifest), examples)


def _test(task: RegressionTask) -> Examples:
    return task.examples("test", views=task.test_views, seed=TEST_SEED)


def _run(onnx: bytes, examples: Examples) -> dict[str, NDArray[np.float32]]:
    session = open_session(onnx)
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(names, {"image": batch}) for batch in _batches(examples.images)]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))
