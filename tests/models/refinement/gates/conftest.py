"""A tiny world for the gates: a task whose truth is known, versions that are off by a known distance, and labels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.bundle import publish
from models.contract.loss_definition import KeypointLoss
from models.contract.manifest import Loss, Preprocessing, Task
from models.contract.snapshot import Row
from models.refinement.gates.run import GateInputs
from models.tasks.protocol import Examples, Split
from tests.conftest import BRIGHTNESS, tiny_manifest, tiny_onnx
from tests.models.refinement.snapshots import png, row_of, write_folder

PLACES = "2.0, 2.0, 6.0, 6.0"


class TinyTask:
    """The two points of `tiny`, labelled with noise; the darker an image, the larger the noise."""

    task = Task(name="tiny", kind="keypoints", names=("a", "b"), units=("pixels",), skeleton=((0, 1),))
    preprocessing = Preprocessing(height=8, width=8, channels=1, fill=0)
    loss = Loss(name="mean error", unit="pixels", failure_level=2.0, definition=KeypointLoss())
    card = fingerprint = "made for tests"
    calibration_views = test_views = 1

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        del split, views, first_view
        return self.draw(200, seed)

    def draw(self, count: int, seed: int) -> Examples:
        rng = np.random.default_rng(seed)
        levels = rng.integers(30, 125, count)
        images = np.repeat(levels, 64).reshape(count, 8, 8, 1).astype(np.uint8)
        noise = rng.normal(0, 0.1 + levels[:, None, None] / 255, (count, 2, 2))
        targets = (np.array([[2.0, 2.0], [6.0, 6.0]]) + noise).astype(np.float32)
        return Examples(images, targets, np.arange(count), np.zeros(count, np.int64))

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        return KeypointLoss()(preds, targets)


@dataclass
class TinyWorld:
    """Makes versions, snapshots and the inputs of the gates in one folder."""

    root: Path
    task: TinyTask = field(default_factory=TinyTask)

    def version(self, name: str, off: float = 0.0, text: str = BRIGHTNESS) -> Path:
        """A version whose points lie `off` pixels too far to the right."""
        places = f"{2 + off}, 2.0, {6 + off}, 6.0"
        content = tiny_onnx(text.replace(PLACES, places))
        manifest = tiny_manifest(content).model_copy(update={"loss": self.task.loss})
        return publish(self.root / name, manifest, {"model.onnx": content, "model_card.md": b"# tiny\n"})

    def snapshot(self, name: str, judge: int, watch: int = 0, change: Callable[[Row], Row] = lambda row: row) -> Path:
        examples = self.task.draw(judge + watch, seed=1)
        images = [png(image) for image in examples.images]
        rows = [
            change(row_of(i, images[i], examples.targets[i].tolist(), "judge" if i < judge else "watch", (8, 8)))
            for i in range(judge + watch)
        ]
        return write_folder(self.root / name, "tiny", self.task.task, rows, images)

    def inputs(self, live: Path, candidate: Path, snapshot: Path | None = None, pins: Path | None = None) -> GateInputs:
        spent = self.root / "candidates" / "spent.ndjson"
        return GateInputs(live, candidate, self.task, snapshot, None, None, pins, spent)


@pytest.fixture
def world(tmp_path: Path) -> TinyWorld:
    return TinyWorld(tmp_path)
