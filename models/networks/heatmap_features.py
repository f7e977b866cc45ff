"""Features of each keypoint, read off a frozen heatmap network before a loss head learns anything.

`Features` -> `read` -> `Readings`: the maps at each predicted place, the shape of each heatmap (peak, second
peak, spread), how the joints lie to one another, and the whole image. Everything is a plain tensor operation
with a free batch axis, so it ends up in the ONNX file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.networks.heatmap import PEAK_CELLS, STRIDE_PX, window_mass
from models.networks.regressors import Features

SMALLEST_MASS = 1e-6  # of a peak: the logarithm of less says nothing
SMALLEST_PX = 0.5  # of a length
SHARES = (1.0, 0.5, 2.0)  # shares of the pose's size at which an error counts in full; a torso is about one
ENTROPY, EXPECTED = 7, 14  # columns of `Readings.shape`; `EXPECTED` is the first of three, for the first share


class Readings(NamedTuple):
    """Columns of one batch. A head may leave out any part."""

    local: Tensor  # [b, k, l] the maps at each predicted place
    shape: Tensor  # [b, k, s] each heatmap's own peak, second peak and spread
    rivals: Tensor  # [b, k, r] heatmaps of other joints at this place, and this heatmap at theirs
    geometry: Tensor  # [b, k, g] offsets to the other joints, in sizes of the pose
    context: Tensor  # [b, c] pooled maps and embedding
    pose: Tensor  # [b, p] limb ratios, size, and the peaks of all joints together


def read(features: Features, limbs: Sequence[tuple[int, int]]) -> Readings:
    """limbs: pairs of joints. Raises ValueError for features without heatmaps or when there are no limbs."""
    if features.heatmaps is None:
        raise ValueError("the regressor has no heatmaps to read")
    if not limbs:
        raise ValueError("limb ratios need at least one limb")
    places, logits = features.prediction, features.heatmaps
    mass = logits.float().flatten(2).softmax(dim=2).view(logits.shape)
    size = _size(places)
    shape = _shape(mass, logits, places, size)
    return Readings(
        local=torch.cat([_sample(one, places, logits) for one in features.maps], dim=1).transpose(1, 2),
        shape=shape,
        rivals=_claims(mass, places),
        geometry=_offsets(places, size, logits),
        context=torch.cat([*(one.mean(dim=(2, 3)) for one in features.maps), features.embedding], dim=1),
        pose=torch.cat([_limbs(places, limbs), size.log(), shape[:, :, 0], shape.mean(dim=1)], dim=1),
    )


def _log_sum(mass: Tensor, logits: Tensor) -> Tensor:
    """Log of the sum of exponentials of logits [b, k, n] with softmax `mass`: [b, k, 1]. It adds no pass over them."""
    return logits.amax(dim=2, keepdim=True) - mass.amax(dim=2, keepdim=True).log()


def _shape(mass: Tensor, logits: Tensor, places: Tensor, size: Tensor) -> Tensor:
    """[b, k, 17]: the log peak comes first; `ENTROPY` and `EXPECTED` are indices of columns.

    Boxes and squared distances are sums or products of one part by row and one by column. So most columns come from
    sums of the mass over rows or columns, which are small beside passes over every cell.
    """
    width, flat, scores = mass.shape[3], mass.flatten(2), logits.float().flatten(2)
    cells = places / STRIDE_PX - 0.5  # [b, k, 2]
    dx, dy = _along(mass, 3) - cells[..., :1], _along(mass, 2) - cells[..., 1:]  # [b, k, w] and [b, k, h]
    near_x, near_y = (one.abs() <= 2 * PEAK_CELLS for one in (dx, dy))
    windows = window_mass(mass, PEAK_CELLS)
    others = windows.masked_fill(near_y.unsqueeze(3) & near_x.unsqueeze(2), 0)
    second, where = others.flatten(2).max(dim=2, keepdim=True)
    second_x, second_y = torch.gather(dx, 2, where % width), torch.gather(dy, 2, where // width)
    box_y = near_y.to(mass)
    weights = torch.stack([torch.ones_like(dy), dy, dy.square(), box_y, box_y * dy.square()], dim=2)
    all_x, by_y, by_y2, box, box_y2 = (weights @ mass).unbind(dim=2)  # [b, k, w] each
    mean_x, mean_y = (one.sum(dim=2, keepdim=True) for one in (all_x * dx, by_y))
    squared = (all_x * dx.square() + by_y2).sum(dim=2, keepdim=True)
    sharpness = ((box * dx.square() + box_y2) * near_x).sum(dim=2, keepdim=True)
    peak = windows.flatten(2).amax(dim=2, keepdim=True)
    top = flat.amax(dim=2, keepdim=True)
    log_sum = _log_sum(flat, scores)
    distance = (dx.square().unsqueeze(2) + dy.square().unsqueeze(3)).sqrt()
    return torch.cat(
        [
            peak.clamp(min=SMALLEST_MASS).log(),
            top.clamp(min=SMALLEST_MASS).log(),
            second.clamp(min=SMALLEST_MASS).log(),
            (second / peak.clamp(min=SMALLEST_MASS)),
            (second_x.square() + second_y.square()).sqrt() / width,
            second_x / width,
            second_y / width,
            log_sum - (flat * scores).sum(dim=2, keepdim=True),
            squared.clamp(min=SMALLEST_MASS).log(),
            sharpness.clamp(min=SMALLEST_MASS).log(),
            (mean_x.square() + mean_y.square() + SMALLEST_MASS).sqrt() / width,
            scores.amax(dim=2, keepdim=True),
            log_sum,
            scores.mean(dim=2, keepdim=True),
            _expected(flat, distance.flatten(2), size / STRIDE_PX),
        ],
        dim=2,
    )


def _along(mass: Tensor, axis: int) -> Tensor:
    """Indices of the cells along an axis, with the type of `mass`."""
    return torch.arange(mass.shape[axis], device=mass.device).to(mass)


def _expected(mass: Tensor, distance: Tensor, size: Tensor) -> Tensor:
    """Log of the expected loss if the heatmap were right: distance over a share of the pose's size, at most one.

    mass, distance: [b, k, n]; size: [b, 1] in cells -> [b, k, shares].
    """
    limits = torch.cat([share * size for share in SHARES], dim=1).unsqueeze(1)  # [b, 1, shares]
    shortened = torch.minimum(distance.unsqueeze(2), limits.unsqueeze(3))  # [b, k, shares, n]
    means = (shortened @ mass.unsqueeze(3)).squeeze(3) / limits
    return means.clamp(min=SMALLEST_MASS).log()


def _claims(mass: Tensor, places: Tensor) -> Tensor:
    """[b, k, 2 k]: the log mass of every heatmap at each place, then the transpose."""
    claimed = _sample(window_mass(mass, PEAK_CELLS), places, mass).clamp(min=SMALLEST_MASS).log()  # [b, heatmap, place]
    return torch.cat([claimed.transpose(1, 2), claimed], dim=2)


def _sample(maps: Tensor, places: Tensor, grid: Tensor) -> Tensor:
    """Bilinear values of maps [b, c, h, w] at places [b, k, 2] in pixels: [b, c, k]. grid: at stride `STRIDE_PX`."""
    where = _on_canvas(places, grid).unsqueeze(2)  # [b, k, 1, 2]
    return functional.grid_sample(maps, where, align_corners=False, padding_mode="border").squeeze(3)


def _on_canvas(places: Tensor, grid: Tensor) -> Tensor:
    """Places in pixels -> from -1 to 1 across the canvas."""
    return places / (places.new_tensor([grid.shape[3], grid.shape[2]]) * STRIDE_PX / 2) - 1


def _size(places: Tensor) -> Tensor:
    """Root mean squared distance of the joints from their centre, in pixels: [b, 1]."""
    centred = places - places.mean(dim=1, keepdim=True)
    return centred.square().sum(dim=2).mean(dim=1, keepdim=True).clamp(min=SMALLEST_PX**2).sqrt()


def _offsets(places: Tensor, size: Tensor, grid: Tensor) -> Tensor:
    """[b, k, 2 k + 4]: to every joint, from the centre, and on the canvas."""
    between = (places.unsqueeze(1) - places.unsqueeze(2)).flatten(2) / size.unsqueeze(2)
    centred = (places - places.mean(dim=1, keepdim=True)) / size.unsqueeze(2)
    return torch.cat([between, centred, _on_canvas(places, grid)], dim=2)


def _limbs(places: Tensor, limbs: Sequence[tuple[int, int]]) -> Tensor:
    """Log of each limb's length over their mean, [b, limbs]: free of scale."""
    first, second = ([pair[end] for pair in limbs] for end in (0, 1))
    logs = (places[:, first] - places[:, second]).square().sum(dim=2).clamp(min=SMALLEST_PX**2).log() / 2
    return logs - logs.mean(dim=1, keepdim=True)
