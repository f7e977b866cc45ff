"""The pools on which the promises are measured: synthetic losses, and outputs of the shipped bundles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from models.calibration.data import CalibrationData
from models.calibration.guarantees import score_grid
from models.contract.bundle import read_manifest, read_onnx
from models.contract.manifest import Loss
from models.contract.runtime import open_session
from models.evaluation.bundle import TEST_SEED
from models.tasks.digits import Digits
from models.tasks.pose import Pose
from models.tasks.protocol import RegressionTask, Split

DIGIT_VIEWS, CALIBRATION_SEED, BATCH = 4, 0, 64
Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Outputs with their true losses, and thresholds to try, which come from other data."""

    data: CalibrationData
    grid: Array

    def of_sources(self, chosen: NDArray[np.bool_]) -> CalibrationData:
        """chosen: [m]."""
        return self.of_rows(np.flatnonzero(chosen[self.data.sources]))

    def of_rows(self, rows: Rows, *, independent: bool = False) -> CalibrationData:
        d = self.data
        sources = None if independent else d.sources[rows]
        return CalibrationData.of(d.scores[rows], d.ood_scores[rows], d.losses[rows], d.loss, sources)


def synthetic_pool(sources: int = 4000, views: int = DIGIT_VIEWS, seed: int = 0) -> Pool:
    """Gamma losses whose shape varies, a score that knows their log mean but for noise, an OOD score that knows little.

    Half of the variance of all three columns is shared by the views of one source.
    """
    rng = np.random.default_rng(seed)

    def draw(number: int) -> tuple[Array, Array, Array]:
        shared, own = rng.normal(size=(2, 3, number, 1)), rng.normal(size=(3, number, views))
        hard, noise, far = (np.sqrt(0.5) * (shared[0] + own)).reshape(3, -1)
        shape = rng.choice([1.0, 8.0], hard.size)
        losses = rng.gamma(shape, np.exp(0.7 * hard) / shape)
        return 0.7 * hard + 0.4 * noise, np.exp(0.3 * far + 0.1 * hard), losses

    loss = Loss(name="synthetic", unit="units", failure_level=2.0)
    scores, ood_scores, losses = draw(sources)
    data = CalibrationData.of(scores, ood_scores, losses, loss, np.repeat(np.arange(sources), views))
    return Pool(data, score_grid(draw(500)[0]))


@dataclass(frozen=True, slots=True)
class Shipped:
    """A bundle, and the task with its true losses."""

    bundle: Path
    task: RegressionTask
    views: int  # of each source

    def pool(self, *splits: Split) -> Pool:
        """The bundle's own outputs for the sources of the given splits. The grid comes from the head split."""
        columns = [np.concatenate(parts) for parts in zip(*(self._answers(s, self.views) for s in splits), strict=True)]
        scores, ood_scores, losses, sources = columns
        grid = score_grid(self._answers("head", 1)[0])
        return Pool(CalibrationData.of(scores, ood_scores, losses, self.task.loss, sources), grid)

    def _answers(self, split: Split, views: int) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        examples = self.task.examples(split, views, TEST_SEED if split == "test" else CALIBRATION_SEED)
        score, ood_score, preds = _outputs(self.bundle, examples.images)
        losses = self.task.true_loss(preds, examples.targets)
        return score.astype(np.float64), ood_score.astype(np.float64), losses, examples.source


def shipped(store: Path, pose_data: Path | None) -> dict[str, Shipped]:
    """The bundles that ship; pose is left out without its photographs. Ends the program for another data set."""
    found = {"digits": Shipped(store / "digits" / "1", Digits(), DIGIT_VIEWS)}
    if pose_data is not None:
        found["pose"] = Shipped(store / "pose" / "1", Pose(pose_data), 1)
    for one in found.values():
        if read_manifest(one.bundle).provenance.data_fingerprint != one.task.fingerprint:
            raise SystemExit(f"{one.bundle} was trained on other data than these: train it again")
    return found


def _outputs(bundle: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Scores, OOD scores and predictions."""
    session = open_session(read_onnx(bundle, read_manifest(bundle)))
    names = ["score", "ood_score", "prediction"]
    batches = [
        session.run(names, {"image": images[start : start + BATCH]})
        for start in track(range(0, len(images), BATCH), f"Answers of {bundle.parent.name}")
    ]
    return [np.concatenate(column) for column in zip(*batches, strict=True)]
