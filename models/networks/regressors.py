"""Regressors: networks that predict, and also return the features that a loss head and the OOD score need.

A loss head reads only `Features.maps`, the OOD score only `Features.embedding`. Any `Regressor` can replace
`KeypointNet`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

MIDDLE, SPREAD = 96.0, 64.0  # `normalise` subtracts the first grey level and divides by the second
CELL_PX = 8  # canvas pixels between neighbouring cells of `KeypointNet`'s coarsest map


class Features(NamedTuple):
    """The outputs of a regressor for a batch of b images."""

    prediction: Tensor  # [b, k, 2] in canvas pixels for keypoints, [b, k] for a vector
    maps: tuple[Tensor, ...]  # [b, c_i, h_i, w_i], finest first
    embedding: Tensor  # [b, e]
    heatmaps: Tensor | None = None  # [b, k, h, w], logits of the place of each keypoint, of networks that have them


class Regressor(nn.Module, ABC):
    """The interface of a network for training, calibration and export.

    forward: float [b, c, h, w], the output of `normalise` -> `Features`. In eval mode the features of a canvas do not
    depend on the rest of the batch.
    """

    summary: str  # for the model card, after "a network of n parameters"
    map_channels: tuple[int, ...]  # of `Features.maps`, in their order
    embedding_size: int
    last_layers: tuple[str, ...] = ()  # names of the parts that turn features into predictions

    @abstractmethod
    def training_loss(self, features: Features, targets: Tensor) -> Tensor:
        """The scalar that training lowers. targets: [b, ...] in canvas units, NaN where there is none."""


@dataclass(frozen=True, slots=True)
class KeypointNetConfig:
    keypoints: int = 4
    channels: int = 1  # of the image
    widths: tuple[int, int, int] = (16, 40, 64)  # at 1/2, 1/4 and 1/8 of the canvas


def normalise(images: Tensor) -> Tensor:
    """uint8 [b, h, w, c] -> float32 [b, c, h, w] of roughly zero mean and unit spread."""
    return (images.to(torch.float32) - MIDDLE).permute(0, 3, 1, 2) / SPREAD


def block(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU; the spatial size is divided by `stride`."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class KeypointNet(Regressor):
    """Three scales of convolutions; every cell of the coarsest map votes for the place of each keypoint.

    A keypoint is the attention-weighted mean of the votes (cell centre + offset). Unlike the peak of a heatmap it can
    lie anywhere. The corners of a glyph's square need that: most are on empty background.
    """

    summary = "whose cells vote for each point"
    last_layers: tuple[str, ...] = ("coarse", "votes")

    def __init__(self, config: KeypointNetConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.map_channels = config.widths
        self.embedding_size = sum(config.widths)
        self.fine = block(config.channels, fine, stride=2)  # [b, fine, h/2, w/2]
        self.middle = nn.Sequential(block(fine, middle, stride=2), block(middle, middle))  # [b, middle, h/4, w/4]
        self.coarse = nn.Sequential(
            block(middle, coarse, stride=2), block(coarse, coarse), block(coarse, coarse, dilation=2)
        )  # [b, coarse, h/8, w/8]
        self.votes = nn.Conv2d(coarse, 3 * config.keypoints, 1)  # attention, x and y for each keypoint

    def forward(self, images: Tensor) -> Features:
        fine = self.fine(images)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        maps = (fine, middle, coarse)
        # The coarsest map alone is blind to texture: its mean hardly moves under salt-and-pepper noise.
        return Features(self._vote(coarse), maps, torch.cat([one.mean(dim=(2, 3)) for one in maps], dim=1))

    def training_loss(self, features: Features, targets: Tensor) -> Tensor:
        """Smooth L1 in canvas pixels, mean over annotated keypoints; NaN for a batch without any."""
        there = ~torch.isnan(targets)
        return functional.smooth_l1_loss(features.prediction[there], targets[there])

    def _vote(self, coarse: Tensor) -> Tensor:
        attention, offsets = self.votes(coarse).flatten(2).tensor_split((self.votes.out_channels // 3,), dim=1)
        height, width = coarse.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        cells = CELL_PX * (torch.stack((columns, rows)).flatten(1) + 0.5).to(coarse)  # [2, h * w]
        places = cells + CELL_PX * offsets.unflatten(1, (-1, 2))  # [b, k, 2, h * w]
        weights = attention.softmax(dim=-1).unsqueeze(2)
        return torch.sum(places * weights, dim=-1)
