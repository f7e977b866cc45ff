"""The interface of a task for training, evaluation and export: data in four disjoint splits, and a true loss.

A task needs no torch, so code that only evaluates or demonstrates a bundle can import it.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.contract import manifest

Split = Literal["trunk", "head", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("trunk", "head", "calibration", "test")
PROBES = 50  # examples on which a declared loss is compared with the task's own
SAME_LOSS = 1e-4  # relative: losses may be computed in float32
FAR_OUT = 1.0  # in longer sides beyond the frame: labels so far out are in other units


@dataclass(frozen=True, slots=True)
class Examples:
    """Canvases with their ground truth; rows belong together."""

    images: NDArray[np.uint8]  # [n, height, width, channels]
    targets: NDArray[np.float32]  # [n, k, 2] in canvas pixels for keypoints, NaN if not annotated; [n, k] for a vector
    source: NDArray[np.int64]  # [n] id of the source image; no id occurs in two splits
    stratum: NDArray[np.int64]  # [n] group within which rank correlation is also reported
    # [n, 2] width and height of the images as they would be posted; None: not known, so not watched for drift.
    sizes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)


class RegressionTask(Protocol):
    """A data set with its target and its loss, in the words of the manifest."""

    @property
    def task(self) -> manifest.Task: ...

    @property
    def preprocessing(self) -> manifest.Preprocessing: ...

    @property
    def loss(self) -> manifest.Loss: ...

    @property
    def calibration_views(self) -> int:
        """Views of each calibration source that fit the loss map. Drift references use only the first one."""

    @property
    def test_views(self) -> int:
        """Views of each test source for an evaluation; fixed, so that figures of different bundles compare."""

    @property
    def card(self) -> str:
        """Markdown for the model card: the data with its citation and licence, the target, known limits."""

    @property
    def fingerprint(self) -> str:
        """Changes when the data, the splits, or the code that makes examples change.

        It is the same on every machine, so it can be compared with the fingerprint of a bundle from elsewhere.
        """

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        """`views` examples of every source image of a split, ordered by source, then by view.

        The same (split, source, seed, view number) always gives the same example. View numbers count from
        `first_view`, so there are always fresh examples. A task with fixed images has one view of each, for every
        seed and number, and raises ValueError for more.
        """

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """preds, targets: [n, ...] in canvas units -> loss [n] in the unit of `loss`."""


class KeypointTask(RegressionTask, Protocol):
    """A task of keypoints that also has a loss of each keypoint."""

    def true_keypoint_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """preds, targets: [n, k, 2] in canvas pixels -> losses [n, k] in the unit of `loss`, NaN if not annotated.

        Their mean over annotated keypoints is `true_loss`.
        """


def check_examples(examples: Examples, task: manifest.Task, canvas: manifest.Preprocessing, where: str) -> None:
    """Raises ValueError, naming `where`, for examples that `task` cannot be learned from or measured on."""
    count = len(examples)
    if not count:
        raise ValueError(f"{where} has no examples")
    if examples.images.dtype != np.uint8 or examples.images.shape[1:] != canvas.canvas_shape:
        raise ValueError(
            f"{where} has images {examples.images.dtype} {list(examples.images.shape)}, "
            f"not uint8 [n, {', '.join(map(str, canvas.canvas_shape))}]"
        )
    if examples.targets.shape != (count, *task.prediction_shape):
        raise ValueError(f"{where} has targets {list(examples.targets.shape)}, not {[count, *task.prediction_shape]}")
    if len(examples.source) != count or len(examples.stratum) != count:
        raise ValueError(
            f"{where} has {count} images, {len(examples.source)} sources and {len(examples.stratum)} strata"
        )
    if examples.sizes is not None and (examples.sizes.shape != (count, 2) or examples.sizes.min() < 1):
        raise ValueError(f"{where} has sizes {list(examples.sizes.shape)}, not a width and a height of each image")
    _check_targets(examples.targets, task, where)
    if task.kind == "keypoints":
        _check_range(examples.targets, canvas, where)


def check_definition(task: RegressionTask, examples: Examples) -> None:
    """Raises ValueError unless the loss that the manifest declares, if any, is the loss that the task computes.

    Both are computed for predictions near some of the targets, from close to far.
    """
    definition = task.loss.definition
    if definition is None:
        return
    if definition.kind != task.task.kind:
        raise ValueError(f"{task.task.name} has {task.task.kind}, but declares a loss of {definition.kind}")
    targets = examples.targets[:PROBES].astype(np.float64)
    spread = float(np.nanstd(targets)) or 1.0
    noise = np.random.default_rng(0).normal(0, spread, targets.shape)
    steps = np.geomspace(0.01, 4, len(targets)).reshape(-1, *(1,) * (targets.ndim - 1))
    preds = np.nan_to_num(targets) + noise * steps
    found, declared = task.true_loss(preds, targets), definition(preds, targets)
    differs = ~np.isclose(found, declared, rtol=SAME_LOSS, atol=SAME_LOSS * float(np.abs(found).max(initial=0)))
    if differs.any():
        raise ValueError(
            f"the loss that {task.task.name} declares gives {declared[differs][0]:g} where the task's own gives "
            f"{found[differs][0]:g}: correct its definition, or leave it out"
        )


def _check_targets(targets: NDArray[np.float32], task: manifest.Task, where: str) -> None:
    missing = np.isnan(targets)
    unusable = np.isinf(targets) if task.kind == "keypoints" else ~np.isfinite(targets)
    if unusable.any():
        raise ValueError(f"{where} has targets that are not finite, first in row {_first_row(unusable)}")
    nothing = np.asarray(missing.reshape(len(targets), -1).all(axis=1))
    if nothing.any():
        raise ValueError(f"{where} has no annotated keypoint in row {_first_row(nothing)}: leave such images out")


def _check_range(targets: NDArray[np.float32], canvas: manifest.Preprocessing, where: str) -> None:
    size = np.array([canvas.width, canvas.height])
    far = np.nan_to_num(np.maximum(-targets, targets - size)) > FAR_OUT * max(size)
    if far.any():
        row = _first_row(far)
        raise ValueError(
            f"{where} has a keypoint out of range of its {size[0]}x{size[1]} pixels in row {row}: "
            f"({', '.join(f'{value:g}' for value in targets[row][far[row].any(axis=-1)][0])})"
        )


def _first_row(bad: NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])
