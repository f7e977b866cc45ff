"""Loss heads: networks that read a regressor's feature maps and forecast its loss.

A score is unbounded and has no unit; higher is worse. `models.calibration.loss_map` maps it to the unit of the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Architecture = Literal["convolutional", "pooled"]


@dataclass(frozen=True, slots=True)
class LossHeadConfig:
    """`map_channels`: channels of the feature maps that the head will be given, in their order."""

    map_channels: tuple[int, ...]
    architecture: Architecture = "convolutional"
    width: int = 32


class PooledLossHead(nn.Module):
    """The mean of each map goes through its own linear layer and ReLU; one linear layer joins them.

    Yoo & Kweon, "Learning Loss for Active Learning", CVPR 2019, figure 2.
    """

    def __init__(self, config: LossHeadConfig) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(channels, config.width) for channels in config.map_channels)
        self.out = nn.Linear(config.width * len(config.map_channels), 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps: [b, c_i, h_i, w_i] each -> scores [b]."""
        means = (branch(one.mean(dim=(2, 3))) for branch, one in zip(self.branches, maps, strict=True))
        scores: Tensor = self.out(torch.cat([mean.relu() for mean in means], dim=1))
        return scores.squeeze(1)


class ConvolutionalLossHead(nn.Module):
    """The finest map, convolved and shrunk step by step, meets every coarser map on its way.

    Shukla & Ahmed, "A Mathematical Analysis of Learning Loss for Active Learning in Regression", CVPR
    Workshops 2021, section on LearningLoss++: the place of a feature is kept until the last map.
    """

    def __init__(self, config: LossHeadConfig) -> None:
        super().__init__()
        width = config.width
        self.enter = _convolution(config.map_channels[0], width)
        self.steps = nn.ModuleList(_convolution(width + channels, width) for channels in config.map_channels[1:])
        self.last = _convolution(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps: [b, c_i, h_i, w_i] each, finest first -> scores [b]."""
        state = self.enter(maps[0])
        for step, coarser in zip(self.steps, maps[1:], strict=True):
            shrunk = functional.adaptive_avg_pool2d(state, (coarser.shape[-2], coarser.shape[-1]))
            state = step(torch.cat((shrunk, coarser), dim=1))
        scores: Tensor = self.out(self.last(state).mean(dim=(2, 3)))
        return scores.squeeze(1)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


LossHead = PooledLossHead | ConvolutionalLossHead


def build_loss_head(config: LossHeadConfig) -> LossHead:
    """A fresh head. Raises ValueError without feature maps or for an unknown architecture."""
    if not config.map_channels:
        raise ValueError("a loss head needs at least one feature map")
    if config.architecture not in _HEADS:
        raise ValueError(f"unknown loss head {config.architecture!r}: choose one of {', '.join(_HEADS)}")
    return _HEADS[config.architecture](config)


_HEADS: dict[str, type[PooledLossHead] | type[ConvolutionalLossHead]] = {
    "convolutional": ConvolutionalLossHead,
    "pooled": PooledLossHead,
}
