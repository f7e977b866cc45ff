"""Changes whole batches of photographs and their keypoints at random, so that no epoch repeats another.

Geometry: rotation, scale, shift, mirror. Appearance: brightness, contrast, saturation, tint and flat rectangles. On
every device the random numbers come from PyTorch's CPU generator, so that a seed gives the same changes. Blur, noise,
compression, darkness and foreign objects are kept for the tests of robustness.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges; each number is the largest change either way, scales are factors."""

    rotation_deg: float = 45.0
    scale: float = 1.3
    shift: float = 0.1  # share of the canvas
    mirror: float = 0.5  # probability
    brightness: float = 0.25  # share of full range
    contrast: float = 1.4
    saturation: float = 0.6  # 1: from grey to twice as colourful
    tint: float = 1.15
    cutouts: int = 2
    cutout: float = 0.35  # the longest side of a rectangle, as a share of the canvas
    fill: int = 114  # grey level beyond the edges


def mirror_order(names: Sequence[str]) -> list[int]:
    """The index of each keypoint's mirror image: `left_x` and `right_x` swap, others stay."""
    swapped = [
        name.replace("left_", "right_", 1) if name.startswith("left_") else name.replace("right_", "left_", 1)
        for name in names
    ]
    return [names.index(other) if other in names else place for place, other in enumerate(swapped)]


def augment(images: Tensor, targets: Tensor, order: Sequence[int], ranges: Augmentation) -> tuple[Tensor, Tensor]:
    """images: uint8 [b, h, w, c]; targets: [b, k, 2] in pixels, NaN allowed -> both changed, images as float32.

    order: see `mirror_order`. Keypoints may come to lie off the canvas.
    """
    matrix, mirrored = _similarity(len(images), ranges)
    matrix, mirrored = matrix.to(images.device), mirrored.to(images.device)
    moved = _warp(images.to(torch.float32).permute(0, 3, 1, 2), matrix, ranges.fill)
    painted = _cut_out(_recolour(moved, ranges), ranges)
    places = _follow(targets, matrix, images.shape[2], images.shape[1])
    places = torch.where(mirrored[:, None, None], places[:, list(order)], places)
    return painted.clamp(0, 255).permute(0, 2, 3, 1), places


def _uniform(count: int, low: float, high: float) -> Tensor:
    return torch.rand(count) * (high - low) + low


def _similarity(count: int, ranges: Augmentation) -> tuple[Tensor, Tensor]:
    """Maps from the new canvas to the old one, both from -1 to 1: [b, 2, 3]; and which of them mirror: [b]."""
    angle = torch.deg2rad(_uniform(count, -ranges.rotation_deg, ranges.rotation_deg))
    scale = torch.exp(_uniform(count, -1, 1) * math.log(ranges.scale))
    mirrored = torch.rand(count) < ranges.mirror
    flip = 1.0 - 2.0 * mirrored.float()
    shift = 2 * ranges.shift * torch.stack((_uniform(count, -1, 1), _uniform(count, -1, 1)), dim=1)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack((flip * cosine, -sine, flip * sine, cosine), dim=1).view(count, 2, 2)
    return torch.cat((linear, shift[:, :, None]), dim=2), mirrored


def _warp(images: Tensor, matrix: Tensor, fill: int) -> Tensor:
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images - fill, grid, align_corners=False) + fill


def _follow(targets: Tensor, matrix: Tensor, width: int, height: int) -> Tensor:
    """The places of the old canvas's points on the new canvas, in pixels: the inverse of `matrix`."""
    half = torch.tensor([width, height], device=targets.device) / 2
    old = targets / half - 1
    new: Tensor = torch.linalg.solve(matrix[:, :, :2], (old - matrix[:, None, :, 2]).mT).mT
    return (new + 1) * half


def _recolour(images: Tensor, ranges: Augmentation) -> Tensor:
    count, device = len(images), images.device
    contrast = torch.exp(_uniform(count, -1, 1) * math.log(ranges.contrast))
    bright = 255 * _uniform(count, -ranges.brightness, ranges.brightness)
    colourful = _uniform(count, 1 - ranges.saturation, 1 + ranges.saturation)
    tint = torch.exp(_uniform(count * images.shape[1], -1, 1) * math.log(ranges.tint)).view(count, -1, 1, 1)
    contrast, bright, colourful = (one.view(-1, 1, 1, 1).to(device) for one in (contrast, bright, colourful))
    grey = images.mean(dim=1, keepdim=True)
    coloured = grey + colourful * (images - grey)
    level = grey.mean(dim=(2, 3), keepdim=True)
    return ((coloured - level) * contrast + level + bright) * tint.to(device)


def _cut_out(images: Tensor, ranges: Augmentation) -> Tensor:
    """Paints up to `cutouts` rectangles on every image, each in one random colour. DeVries & Taylor, 2017."""
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device)[None, None, :, None]
    columns = torch.arange(width, device=images.device)[None, None, None, :]
    for _ in range(ranges.cutouts):
        sides = ranges.cutout * torch.rand(count, 2, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.5)  # noqa: PLR2004 - half of them
        centres = torch.rand(count, 2, 1, 1)
        colours = (255 * torch.rand(count, channels, 1, 1)).to(images.device)
        low, high = ((centres + sign * sides / 2).to(images.device) for sign in (-1, 1))
        inside = (columns >= low[:, :1] * width) & (columns < high[:, :1] * width)
        inside = inside & (rows >= low[:, 1:] * height) & (rows < high[:, 1:] * height)
        images = torch.where(inside, colours, images)
    return images
