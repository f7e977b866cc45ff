"""A task with the labels of a snapshot beside its own data.

Audit labels join the calibration split. Labels that teach are kept apart, because they are mixed with old images batch
by batch. The test split stays as it is.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.contract import manifest
from models.refinement.dataset import Labelled
from models.tasks.protocol import SPLITS, Examples, KeypointTask, RegressionTask, Split

NO_STRATUM = -1  # of an image that the task did not sort


def as_examples(labelled: Labelled, first_source: int, copies: int = 1, *, sized: bool = True) -> Examples:
    """The rows as examples, each `copies` times in turn. Their sources count from `first_source`."""
    rows = np.repeat(np.arange(len(labelled)), copies)
    strata = np.full(len(rows), NO_STRATUM, np.int64)
    sizes = labelled.sizes[rows] if sized else None
    return Examples(labelled.images[rows], labelled.targets[rows], first_source + rows, strata, sizes)


def joined(first: Examples, second: Examples) -> Examples:
    """The rows of both; sizes only if both have them."""
    sizes = None
    if first.sizes is not None and second.sizes is not None:
        sizes = np.concatenate((first.sizes, second.sizes))
    return Examples(
        np.concatenate((first.images, second.images)),
        np.concatenate((first.targets, second.targets)),
        np.concatenate((first.source, second.source)),
        np.concatenate((first.stratum, second.stratum)),
        sizes,
    )


def rows_of(examples: Examples, kept: NDArray[np.bool_]) -> Examples:
    """Only the rows where `kept` [n] is true."""
    sizes = None if examples.sizes is None else examples.sizes[kept]
    return Examples(examples.images[kept], examples.targets[kept], examples.source[kept], examples.stratum[kept], sizes)


@dataclass(frozen=True)
class RefinedTask:
    """A `RegressionTask`: `whole` with the rows of `calibrate` in its calibration split.

    A row has one view. It is repeated as often as the task draws a source, so that all sources weigh the same.
    """

    whole: RegressionTask
    calibrate: Labelled
    first_source: int  # above all sources of `whole`
    fingerprint: str

    @property
    def task(self) -> manifest.Task:
        return self.whole.task

    @property
    def preprocessing(self) -> manifest.Preprocessing:
        return self.whole.preprocessing

    @property
    def loss(self) -> manifest.Loss:
        return self.whole.loss

    @property
    def calibration_views(self) -> int:
        return self.whole.calibration_views

    @property
    def test_views(self) -> int:
        return self.whole.test_views

    @property
    def card(self) -> str:
        return self.whole.card

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        """See `RegressionTask.examples`."""
        old = self.whole.examples(split, views, seed, first_view)
        if split != "calibration" or not len(self.calibrate):
            return old
        return joined(old, as_examples(self.calibrate, self.first_source, views, sized=old.sizes is not None))

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """See `RegressionTask.true_loss`."""
        return self.whole.true_loss(preds, targets)


@dataclass(frozen=True)
class RefinedKeypointTask(RefinedTask):
    """The same over a task that has a loss of each keypoint."""

    whole: KeypointTask

    def true_keypoint_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """See `KeypointTask.true_keypoint_loss`."""
        return self.whole.true_keypoint_loss(preds, targets)


def refined_task(task: RegressionTask, calibrate: Labelled, fingerprint: str) -> RefinedTask:
    """`task` with the rows of `calibrate`. fingerprint: of the snapshot; the data are those of both."""
    first = 1 + max(int(task.examples(split).source.max(initial=-1)) for split in SPLITS)
    kind = RefinedKeypointTask if hasattr(task, "true_keypoint_loss") else RefinedTask
    return kind(task, calibrate, first, f"{task.fingerprint}+{fingerprint[:16]}" if fingerprint else task.fingerprint)  # type: ignore[arg-type]  # checked by hasattr


def with_equal_chances(labelled: Labelled, model: str) -> Labelled:
    """The audit rows as if all had been drawn with the smallest of their probabilities: see `equally_drawn`."""
    chances = [(row.sample_id, row.inclusion_probability or 1.0) for row in labelled.rows]
    return subset(labelled, equally_drawn(chances, model))


def equally_drawn(chances: Sequence[tuple[str, float]], model: str) -> list[int]:
    """chances: sample id and probability of each -> which of them stay.

    One that was drawn with probability p stays with probability smallest / p. So every image of the traffic had the
    same chance to be among those that stay, which are exchangeable with it: calibration needs no other weights. The
    sample id decides, so a sample stays or goes in every refinement alike.
    """
    smallest = min((chance for _, chance in chances), default=1.0)
    return [i for i, (sample, chance) in enumerate(chances) if _uniform(model, sample) * chance <= smallest]


def subset(labelled: Labelled, rows: list[int]) -> Labelled:
    """Only these rows."""
    return replace(
        labelled, rows=[labelled.rows[i] for i in rows], images=labelled.images[rows], targets=labelled.targets[rows]
    )


def _uniform(model: str, sample_id: str) -> float:
    digest = hashlib.blake2b(f"chance\0{sample_id}".encode(), key=model.encode(), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56
