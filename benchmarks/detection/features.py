"""The outputs of each trunk for each split, kept in a folder so that heads train in seconds.

trunk weights x split -> `Seen`: the readings of `models.networks.heatmap_features` as halves, predictions, losses,
the coarser maps that pooled heads need, and dropout predictions, which cost more than one pass. A split is `trunk`,
`head`, `calibration`, `test`, any of these with `-mirrored` or one of `CHANGES`, or `test-<corruption>-<strength>`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.detection.baselines import dropout_predictions
from benchmarks.detection.corruptions import spoil
from models.networks.heatmap import HeatmapNet, HeatmapNetConfig
from models.networks.heatmap_features import Readings, read
from models.networks.regressors import normalise
from models.tasks.pose import Pose
from models.tasks.protocol import Split
from models.training.augmentation import Augmentation, augment, mirror_order
from models.training.keypoint_head import KeypointObservations, halved, joined, mirrored
from models.training.loop import reproducible

BATCH = 50
CORRUPTED = 120  # test images for each corruption and strength, always the same ones
CORRUPTED_SEED = 0
# The training's own changes, far beyond its ranges: a shift to choose by, apart from the comparison's corruptions.
BEYOND = Augmentation(
    scale=1.8, shift=0.25, brightness=0.5, contrast=2.5, saturation=1.0, tint=1.4, cutouts=4, cutout=0.6
)
CHANGES = {"augmented": (Augmentation(), 1001), "shifted": (BEYOND, 2000)}

Progress = Callable[[str], None]


class Seen(NamedTuple):
    """The outputs of one trunk for one split."""

    readings: Readings
    predictions: Tensor  # [n, k, 2]
    keypoint_losses: Tensor  # [n, k], NaN where not annotated
    maps: tuple[Tensor, ...]  # [n, c, h, w] at 1/16 and 1/32, halves
    dropout: Tensor  # [passes, n, k, 2] predictions; passes is 0 except for the test split

    @property
    def observations(self) -> KeypointObservations:
        losses = self.keypoint_losses.double().numpy()
        return KeypointObservations(self.readings, self.readings.context[:, :0], self.predictions.numpy(), losses)

    @property
    def losses(self) -> NDArray[np.float64]:
        return self.observations.losses


@dataclass(frozen=True, slots=True)
class Trunk:
    """A finished trunk: `number` is its seed and its held-out fold, `mark` identifies its weights."""

    number: int
    network: HeatmapNet
    task: Pose
    mark: str

    @classmethod
    def load(cls, path: Path, number: int, task: Pose) -> "Trunk":
        """path: a state dict of `HeatmapNet` as `torch.save` writes it."""
        network = HeatmapNet(HeatmapNetConfig(len(task.task.names), task.preprocessing.channels))
        network.load_state_dict(torch.load(path, weights_only=True))
        mark = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        return cls(number, network.eval().to(memory_format=torch.channels_last), task, f"{number}-{mark}")  # type: ignore[call-overload] # torch's stub wants a device


def seen(trunk: Trunk, split: str, cache: Path, progress: Progress, limit: int | None = None) -> Seen:
    """Takes it from the cache, or computes it and stores it there. limit: number of images in a tiny run."""
    path = cache / trunk.mark / f"{split.replace(' ', '_')}.pt"
    if not path.exists():
        progress(f"trunk {trunk.number}: {split}")
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _look(trunk, *_examples(trunk.task, split, limit), passes=split == "test")
        scratch = path.with_suffix(".part")
        torch.save([tuple(found.readings), *found[1:]], scratch)
        scratch.replace(path)
    readings, *rest = torch.load(path, weights_only=True, mmap=True)
    return Seen(Readings(*readings), *rest)


def together(parts: Sequence[Seen]) -> Seen:
    """Joins several splits into one, without the dropout predictions."""
    return Seen(
        joined([part.readings for part in parts]),
        torch.cat([part.predictions for part in parts]),
        torch.cat([part.keypoint_losses for part in parts]),
        tuple(torch.cat(maps) for maps in zip(*(part.maps for part in parts), strict=True)),
        parts[0].dropout[:0],
    )


def rows(part: Seen, chosen: NDArray[np.integer]) -> Seen:
    """The rows of some images."""
    index = torch.from_numpy(np.asarray(chosen, np.int64))
    return Seen(
        Readings(*(one[index] for one in part.readings)),
        part.predictions[index],
        part.keypoint_losses[index],
        tuple(one[index] for one in part.maps),
        part.dropout[:, index] if len(part.dropout) else part.dropout,
    )


def _examples(task: Pose, split: str, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    name, *rest = split.split("-")
    plain: Split = name  # type: ignore[assignment] # `task.examples` refuses any other name
    examples = task.examples(plain)
    if rest == ["mirrored"]:
        examples = mirrored(examples, task.task.names)
    images, targets = examples.images[:limit], examples.targets[:limit]
    if rest and rest[0] in CHANGES:
        return _changed(images, targets, mirror_order(task.task.names), *CHANGES[rest[0]])
    if len(rest) < 2:  # noqa: PLR2004 - kind and strength
        return images, targets
    kind, strength = rest
    some = np.random.default_rng(CORRUPTED_SEED).permutation(len(images))[:CORRUPTED]
    return spoil(images[some], targets[some], kind, int(strength))


def _changed(
    images: NDArray[np.uint8], targets: NDArray[np.float32], order: Sequence[int], ranges: Augmentation, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Changes every image at random, like the batches of a trunk's training."""
    found: list[tuple[Tensor, Tensor]] = []
    with reproducible(seed):
        batches = (torch.split(torch.from_numpy(one), BATCH) for one in (images, targets))
        for batch in zip(*batches, strict=True):
            changed, places = augment(batch[0], batch[1], order, ranges)
            found.append((changed.round().to(torch.uint8), places.float()))
    return torch.cat([one[0] for one in found]).numpy(), torch.cat([one[1] for one in found]).numpy()


def _look(trunk: Trunk, images: NDArray[np.uint8], targets: NDArray[np.float32], *, passes: bool) -> Seen:
    found: list[tuple[Readings, Tensor, tuple[Tensor, ...], Tensor]] = []
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for batch in torch.split(torch.from_numpy(images), BATCH):
            features = trunk.network(normalise(batch))
            readings = halved(read(features, trunk.task.task.skeleton))
            coarse = tuple(one.half().contiguous() for one in features.maps[-2:])
            dropped = (
                dropout_predictions(trunk.network, features.maps[0], generator)
                if passes
                else features.prediction.new_zeros((0, *features.prediction.shape))
            )
            found.append((readings, features.prediction, coarse, dropped))
    predictions = torch.cat([one[1] for one in found])
    losses = trunk.task.true_keypoint_loss(predictions.numpy(), targets)
    return Seen(
        joined([one[0] for one in found]),
        predictions,
        torch.from_numpy(losses).float(),
        tuple(torch.cat(maps) for maps in zip(*(one[2] for one in found), strict=True)),
        torch.cat([one[3] for one in found], dim=1),
    )
