"""A task made of a user's data loaders and of the user's own loss of each sample."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract import manifest
from models.tasks.protocol import Examples, Split

OWNERS_CARD = "The network and its data were brought by their owner, whose documentation describes them."

LoadedSplit = Literal["head", "calibration", "test"]
SampleLoss = Callable[[Tensor, Tensor], Tensor]  # (predictions [b, ...], targets [b, ...]) -> losses [b]
# Batches of (images uint8 [b, height, width, channels], targets [b, ...]), or with a third tensor of whole numbers
# [b, 2]: width and height of the images as they would be posted.
Batches = Iterable[Sequence[Tensor]]
Columns = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64] | None]


class DataError(ValueError):
    """The output of a loader or of the loss cannot be used; the message names it and says what to do."""


class LoadedTask:
    """A `RegressionTask` held in memory. Raises DataError unless all three splits hold usable batches.

    It has no trunk split, and one view of each image.
    """

    calibration_views = test_views = 1

    def __init__(
        self,
        task: manifest.Task,
        loss: manifest.Loss,
        sample_loss: SampleLoss,
        data: Mapping[LoadedSplit, Batches],
        card: str,
    ) -> None:
        if set(data) != set(get_args(LoadedSplit)):
            raise DataError(f"data must hold {', '.join(get_args(LoadedSplit))}, not {', '.join(data) or 'nothing'}")
        self.task, self.loss, self.card = task, loss, card
        self._sample_loss = sample_loss
        columns = {split: _loaded(split, batches) for split, batches in data.items()}
        shape = columns["head"][0].shape[1:]
        height, width, channels = shape
        if channels not in {1, 3}:
            raise DataError(
                f"images are [b, {height}, {width}, {channels}]: send [b, height, width, 1 or 3], channels last"
            )
        for split, column in columns.items():
            if column[0].shape[1:] != shape:
                raise DataError(f"images of {split} are {list(column[0].shape[1:])}, those of head {list(shape)}")
        self.preprocessing = manifest.Preprocessing(height=height, width=width, channels=channels)
        self._examples = self._numbered(columns)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for examples in self._examples.values():
            digest.update(examples.images.tobytes() + examples.targets.tobytes())
        return digest.hexdigest()[:16]

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:  # noqa: ARG002 - images are fixed
        """See `RegressionTask.examples`. Raises ValueError for more than one view."""
        if views != 1:
            raise ValueError(f"there is one view of each image, not {views}")
        return self._examples[split]

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """The user's loss. Raises DataError unless it gives [n] losses that are finite and not negative."""
        arrays = (torch.from_numpy(np.ascontiguousarray(one, np.float32)) for one in (preds, targets))
        with torch.no_grad():
            losses = self._sample_loss(*arrays)
        if not isinstance(losses, Tensor) or losses.shape != (len(preds),):
            shape = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise DataError(f"the loss gives {shape} for {len(preds)} samples: it must give one number for each, [n]")
        if not torch.isfinite(losses).all():
            raise DataError(f"the loss of {int((~torch.isfinite(losses)).sum())} of {len(preds)} samples is not finite")
        if losses.min() < 0:
            raise DataError(f"losses must not be negative, but one is {float(losses.min()):g}")
        return losses.double().numpy()

    def _numbered(self, columns: Mapping[LoadedSplit, Columns]) -> dict[Split, Examples]:
        """Examples with source ids; no two splits share an id."""
        found: dict[Split, Examples] = {}
        start = 0
        for split, (images, targets, sizes) in columns.items():
            source = np.arange(start, start + len(images))
            start += len(images)
            found[split] = Examples(images, targets, source, np.zeros(len(images), np.int64), sizes)
        none = found["head"]
        found["trunk"] = Examples(none.images[:0], none.targets[:0], none.source[:0], none.stratum[:0])
        return found


def _loaded(split: str, batches: Batches) -> Columns:
    images: list[NDArray[np.uint8]] = []
    targets: list[NDArray[np.float32]] = []
    sizes: list[NDArray[np.int64]] = []
    for number, batch in enumerate(batches):
        where = f"batch {number} of {split}"
        if not isinstance(batch, Sequence) or len(batch) not in {2, 3}:
            raise DataError(f"{where} is not a pair of images and targets, nor a triple with sizes")
        one, other, *more = batch
        _check_batch(where, one, other)
        if more:
            sizes.append(_sizes(where, more[0], len(one)))
        if len(sizes) != (number + 1 if more else 0):
            raise DataError(f"{where} and those before it must all have sizes of the images, or none")
        if images and (one.shape[1:] != images[0].shape[1:] or other.shape[1:] != targets[0].shape[1:]):
            raise DataError(f"{where} has images and targets of other shapes than those before it")
        images.append(one.numpy())
        targets.append(other.to(torch.float32).numpy())
    if not images:
        raise DataError(f"the loader of {split} gives nothing: a loader that is used up can be listed once only")
    return np.concatenate(images), np.concatenate(targets), np.concatenate(sizes) if sizes else None


def _check_batch(where: str, images: Any, targets: Any) -> None:
    if not isinstance(images, Tensor) or not isinstance(targets, Tensor):
        raise DataError(f"{where} holds {type(images).__name__} and {type(targets).__name__}, not two tensors")
    if images.dtype != torch.uint8 or images.ndim != 4:  # noqa: PLR2004 - b, height, width, channels
        raise DataError(
            f"{where} has images {images.dtype} {list(images.shape)}, not torch.uint8 [b, height, width, channels]: "
            "send pixels as they are; `prepare` turns them into what the network takes"
        )
    if len(images) != len(targets):
        raise DataError(f"{where} has {len(images)} images and {len(targets)} targets")


def _sizes(where: str, sizes: Any, count: int) -> NDArray[np.int64]:
    if not isinstance(sizes, Tensor) or sizes.shape != (count, 2) or sizes.is_floating_point():
        raise DataError(f"{where} has sizes that are not whole numbers [{count}, 2], width and height of each image")
    if count and int(sizes.min()) < 1:
        raise DataError(f"{where} has a size below one pixel")
    return sizes.long().numpy()
