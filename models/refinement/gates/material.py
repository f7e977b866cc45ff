"""What the gates look at: the frozen test split and the judging labels, as each version's ONNX sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.contract.bundle import read_manifest
from models.contract.manifest import Manifest
from models.contract.snapshot import Row, Split
from models.evaluation.bundle import TEST_SEED, run_bundle
from models.refinement.dataset import Labelled, load_split
from models.tasks.protocol import Examples, RegressionTask

Array = NDArray[np.float64]
Looked = Split | Literal["test"]  # a split of the snapshot, or the task's own test split
TEST: Final = "test"
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class GateInputs:
    """Folders with model.onnx and manifest.json, and what they are judged by."""

    live: Path
    candidate: Path
    task: RegressionTask
    snapshot: Path | None  # None: no labels judge
    placebo: Path | None  # trained by the same steps on replay alone
    anchor: Path | None  # the last version whose gain was proven
    pins: Path | None  # folder with the user's golden images and pins.json
    spent: Path  # ledger of judging labels
    skipped: int = 0  # images of the judging split that annotators skipped or rejected, so that they have no label


@dataclass
class Material:
    """The images and labels, and what versions make of them; each version runs once over each set of images."""

    inputs: GateInputs
    _sets: dict[str, Examples] = field(default_factory=dict)
    _rows: dict[str, Labelled] = field(default_factory=dict)
    _outputs: dict[tuple[str, Path], Outputs] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """Of the live version."""
        return read_manifest(self.inputs.live)

    def labelled(self, split: Split) -> Labelled:
        """The usable rows of a split of the snapshot. Raises SnapshotError."""
        if split not in self._rows:
            task = self.inputs.task
            self._rows[split] = (
                Labelled([], np.zeros((0, *task.preprocessing.canvas_shape), np.uint8), _no_targets(task), [])
                if self.inputs.snapshot is None
                else load_split(self.inputs.snapshot, split, task.task, task.preprocessing)
            )
        return self._rows[split]

    def rows(self, splits: Sequence[Split]) -> list[Row]:
        return [row for split in splits for row in self.labelled(split).rows]

    def examples(self, name: Looked) -> Examples:
        """The test split of the task for "test", else the rows of a split of the snapshot."""
        if name not in self._sets:
            self._sets[name] = self._test() if name == TEST else _as_examples(self.labelled(name))
        return self._sets[name]

    def outputs(self, folder: Path, name: Looked) -> Outputs:
        """What the version in `folder` says about a set of images. Raises BundleError."""
        if (name, folder) not in self._outputs:
            self._outputs[name, folder] = run_bundle(folder, self.inputs.task, self.examples(name))[1]
        return self._outputs[name, folder]

    def losses(self, folder: Path, name: Looked) -> Array:
        """The true losses of that version on that set, [n]; none for an empty set."""
        examples = self.examples(name)
        if not len(examples):
            return np.zeros(0)
        return self.inputs.task.true_loss(self.outputs(folder, name)["prediction"], examples.targets)

    def column(self, folder: Path, name: Looked, output: str) -> Array:
        """One output of that version on that set, [n], as float64; none for an empty set."""
        if not len(self.examples(name)):
            return np.zeros(0)
        return self.outputs(folder, name)[output].astype(np.float64)

    def flagged(self, folder: Path, name: Looked) -> NDArray[np.bool_]:
        """Which images of a set the version flags at its default operating point, [n]."""
        manifest = read_manifest(folder)
        point = manifest.operating_points[manifest.default_operating_point]
        flags = point.flags(self.column(folder, name, "score"), self.column(folder, name, "ood_score"))
        return np.asarray(np.logical_or.reduce(list(flags.values())), bool)

    def _test(self) -> Examples:
        return self.inputs.task.examples("test", views=self.inputs.task.test_views, seed=TEST_SEED)


def probabilities(rows: Sequence[Row]) -> Array:
    """The recorded probability of each row of the audit lane, [n]."""
    return np.array([row.inclusion_probability or 1.0 for row in rows], np.float64)


def _as_examples(labelled: Labelled) -> Examples:
    groups = np.unique([row.group for row in labelled.rows], return_inverse=True)[1]
    return Examples(
        labelled.images, labelled.targets, groups.astype(np.int64), np.zeros(len(labelled), np.int64), labelled.sizes
    )


def _no_targets(task: RegressionTask) -> NDArray[np.float32]:
    return np.zeros((0, *task.task.prediction_shape), np.float32)
