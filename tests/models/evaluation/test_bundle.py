"""A bundle is evaluated from its own files, and only on its own task."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.bundle import BundleError, read_manifest
from models.contract.manifest import Manifest
from models.evaluation.bundle import TEST_SEED, evaluate_bundle
from models.tasks.digits import Digits
from models.tasks.protocol import Examples, Split


class Brightness:
    """The task of the tiny model: grey canvases whose true loss is the model's predicted one, exp(brightness)."""

    def __init__(self, manifest: Manifest) -> None:
        self.task, self.preprocessing, self.loss = manifest.task, manifest.preprocessing, manifest.loss
        self.card, self.fingerprint = "grey canvases", "none"
        self.calibration_views, self.test_views = 1, 8

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        assert split == "test"
        levels = np.random.default_rng((seed, first_view)).integers(0, 256, 30 * views).astype(np.uint8)
        images = np.broadcast_to(levels[:, None, None, None], (len(levels), 8, 8, 1))
        sources = np.repeat(np.arange(30), views)
        return Examples(np.ascontiguousarray(images), np.log(levels / 255 + 1).astype(np.float32), sources, sources % 2)

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        assert preds.shape == (len(targets), 2, 2)
        return np.exp(np.expm1(targets.astype(np.float64)))


def test_bundle_is_evaluated_from_its_onnx_alone(tiny_store: Path) -> None:
    folder = tiny_store / "tiny" / "1"
    task = Brightness(read_manifest(folder))
    figures = evaluate_bundle(folder, task)
    brightness = task.examples("test", views=task.test_views, seed=TEST_SEED).images[:, 0, 0, 0] / 255
    assert figures["rank_correlation"] == pytest.approx(1)
    assert figures["mean_predicted_loss"] == pytest.approx(figures["mean_loss"])
    assert figures["failure_rate"] == np.mean(np.exp(brightness) > 2)
    assert figures["flagged"] == np.mean((brightness > 0.5) | (brightness < 0.1))  # either score flags
    assert "rank_correlation_low" in figures


@pytest.mark.slow
def test_shipped_bundle_is_worth_what_its_manifest_says() -> None:
    folder = Path(__file__).resolve().parents[3] / "bundles" / "digits" / "1"
    figures = evaluate_bundle(folder, Digits())
    # Another processor adds in another order: single canvases may cross a threshold.
    assert figures == pytest.approx(read_manifest(folder).evaluation, abs=2e-3)
    assert figures["rank_correlation_within_strata"] > 0.5


def test_bundle_of_another_task_is_refused(tiny_store: Path) -> None:
    folder = tiny_store / "tiny" / "1"
    task = Brightness(read_manifest(folder))
    task.task = task.task.model_copy(update={"name": "other"})
    with pytest.raises(BundleError, match="another task than this 'other'"):
        evaluate_bundle(folder, task)


def test_damaged_bundle_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_store / "tiny" / "1", tmp_path / "1")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(BundleError, match="SHA-256"):
        evaluate_bundle(folder, Brightness(read_manifest(folder)))
