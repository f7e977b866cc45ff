"""`HeatmapNet`: a U-shaped keypoint network that predicts, for every joint, where on a grid it may lie.

canvas -> encoder at 1/2 to 1/32 -> decoder back to 1/4 -> one map of logits for each joint. The softmax
over its cells is a distribution over places. The prediction is the mean of the part around its peak.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.regressors import Features, Regressor

STRIDE_PX = 4  # canvas pixels between neighbouring cells of the heatmaps
WINDOW_CELLS = 4  # half-width of the window whose mean is the prediction; about a torso length in all
PEAK_CELLS = 2  # half-width of a single peak: two standard deviations of the target heatmaps
SPREAD_CELLS = 1.0  # standard deviation of the target heatmaps


@dataclass(frozen=True, slots=True)
class HeatmapNetConfig:
    keypoints: int
    channels: int = 3  # of the image
    widths: tuple[int, int, int, int, int] = (24, 48, 96, 176, 208)  # of the encoder at 1/2, 1/4, ... 1/32
    decoder: int = 80


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the spatial size is divided by `stride`. He et al., CVPR 2016."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(_convolution(inputs, outputs, 3, stride), nn.ReLU())
        self.second = _convolution(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return summed.relu()


class HeatmapNet(Regressor):
    """See the module. `Features.heatmaps` are logits; `maps` are the decoder's, finest first, then the deepest."""

    summary = "that says for each point, cell by cell, where it may lie"
    last_layers: tuple[str, ...] = ("across", "up", "heatmaps")

    def __init__(self, config: HeatmapNetConfig) -> None:
        super().__init__()
        stem, *widths = config.widths
        self.map_channels = (config.decoder, config.decoder, config.decoder, widths[-1])  # at 1/4, 1/8, 1/16, 1/32
        self.embedding_size = widths[0] + widths[-1]
        self.stem = nn.Sequential(_convolution(config.channels, stem, 3, 2), nn.ReLU())
        self.down = nn.ModuleList(
            nn.Sequential(Residual(inputs, outputs, 2), Residual(outputs, outputs))
            for inputs, outputs in zip(config.widths[:-1], widths, strict=True)
        )
        self.across = nn.ModuleList(nn.Conv2d(width, config.decoder, 1) for width in widths)
        self.up = nn.ModuleList(Residual(config.decoder, config.decoder) for _ in widths[:-1])
        self.heatmaps = nn.Conv2d(config.decoder, config.keypoints, 1)

    def forward(self, images: Tensor) -> Features:
        """images: float [b, channels, h, w], sides multiples of 32."""
        state, encoded = self.stem(images), []
        for step in self.down:
            state = step(state)
            encoded.append(state)
        maps = self._decode(encoded)
        logits = self.heatmaps(maps[0])
        # The finest map joins the deepest: a mean of deep features alone hardly moves when texture does.
        embedding = torch.cat([encoded[0].mean(dim=(2, 3)), encoded[-1].mean(dim=(2, 3))], dim=1)
        return Features(peak_mean(logits), (*maps, encoded[-1]), embedding, logits)

    def training_loss(self, features: Features, targets: Tensor) -> Tensor:
        """Cross-entropy of the heatmaps, mean over annotated joints; see `heatmap_loss`."""
        if features.heatmaps is None:
            raise ValueError("these features come from a network without heatmaps")
        return heatmap_loss(features.heatmaps, targets)

    def _decode(self, encoded: list[Tensor]) -> list[Tensor]:
        """Decoder maps at 1/4, 1/8 and 1/16, finest first."""
        state, maps = self.across[-1](encoded[-1]), []
        for level in reversed(range(len(self.up))):
            grown = functional.interpolate(state, scale_factor=2.0, mode="nearest")
            state = self.up[level](grown + self.across[level](encoded[level]))
            maps.append(state)
        return maps[::-1]


def peak_mean(logits: Tensor) -> Tensor:
    """logits: [b, k, h, w] -> keypoints [b, k, 2] in canvas pixels, between cells.

    The peak is the window of cells with the most mass, and the keypoint is the mean place within it. A window is the
    product of a range of rows and a range of columns, so its sums are small matrix products.
    """
    height, width = logits.shape[2:]
    mass = logits.float().flatten(2).softmax(dim=2).view(logits.shape)
    peak = window_mass(mass, WINDOW_CELLS).flatten(2).argmax(dim=2, keepdim=True)  # [b, k, 1]
    columns, rows = (torch.arange(length, device=logits.device).to(mass) for length in (width, height))
    near_x = ((columns - peak % width).abs() <= WINDOW_CELLS).to(mass)  # [b, k, w]
    near_y = ((rows - peak // width).abs() <= WINDOW_CELLS).to(mass)  # [b, k, h]
    by_column = torch.stack([near_y, near_y * rows], dim=2) @ mass * near_x.unsqueeze(2)  # [b, k, 2, w]
    total, y = by_column.sum(dim=3).unbind(dim=2)
    x = (by_column[:, :, 0] * columns).sum(dim=2)
    return STRIDE_PX * (torch.stack([x, y], dim=2) / total.unsqueeze(2) + 0.5)


def window_mass(mass: Tensor, cells: int) -> Tensor:
    """mass: [b, k, h, w] -> mass of the window around every cell, [b, k, h, w]. A window reaches `cells` to each side.

    Two products with band matrices: ONNX Runtime's average pooling sums each window separately, at many times the cost.
    """
    rows, columns = (_band(length, cells).to(mass) for length in mass.shape[2:])
    return rows @ mass @ columns


def _band(length: int, cells: int) -> Tensor:
    """[length, length], true where two places are at most that many cells apart."""
    places = torch.arange(length)
    return (places.unsqueeze(1) - places).abs() <= cells


def heatmap_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the softmax over cells against a small Gaussian around each joint, averaged over joints.

    logits: [b, k, h, w]; targets: [b, k, 2] in canvas pixels, NaN where not annotated. A joint off the grid
    counts as not annotated. Zero for a batch without any.
    """
    columns, rows = cell_indices(logits)
    size = STRIDE_PX * torch.tensor([logits.shape[3], logits.shape[2]], device=logits.device)
    there = ((targets >= 0) & (targets <= size)).all(dim=2)  # NaN compares false
    x, y = (targets / STRIDE_PX - 0.5).nan_to_num()[..., None, None].unbind(dim=2)
    distance = (columns - x).square() + (rows - y).square()  # [b, k, h, w]
    goal = (-0.5 * distance / SPREAD_CELLS**2).flatten(2).softmax(dim=2)
    entropy = -(goal * logits.float().flatten(2).log_softmax(dim=2)).sum(dim=2)
    return (entropy * there).sum() / there.sum().clamp(min=1)


def cell_indices(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row of every cell of [..., h, w], each [h, w]."""
    height, width = maps.shape[-2:]
    row = torch.arange(height, device=maps.device)[:, None].expand(height, width)
    column = torch.arange(width, device=maps.device)[None, :].expand(height, width)
    return column, row


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
