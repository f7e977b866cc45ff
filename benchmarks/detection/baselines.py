"""Failure scores without a loss head, or with another kind of head: the rivals of the predicted loss.

All are higher for worse inputs. They use a frozen heatmap network: the confidence of its heatmaps, distances of its
embedding from a reference, the spread of its predictions under dropout, under a mirror and among networks, and a head
that learns the variance of the error.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.networks.heatmap import HeatmapNet, peak_mean

NEIGHBOURS = 10
DROPOUT, PASSES = 0.2, 20
SMALLEST_SPREAD = 1e-6

Array = NDArray[np.float64]


def nearest_distance(embeddings: ArrayLike, reference: ArrayLike, neighbours: int = NEIGHBOURS) -> Array:
    """Distance to the k-th nearest of the reference, rows scaled to length one: [n, e], [m, e] -> [n].

    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022. Columns are standardised by
    the reference first. Raises ValueError when there are fewer than `neighbours` rows in it.
    """
    x, known = np.asarray(embeddings, np.float64), np.asarray(reference, np.float64)
    if not 0 < neighbours <= len(known):
        raise ValueError(f"{neighbours} neighbours are asked for among {len(known)}")
    mean, spread = known.mean(axis=0), np.maximum(known.std(axis=0), SMALLEST_SPREAD)
    x, known = (_unit((rows - mean) / spread) for rows in (x, known))
    squared = np.clip(2 - 2 * x @ known.T, 0, None)
    return np.asarray(np.sqrt(np.partition(squared, neighbours - 1, axis=1)[:, neighbours - 1]))


def disagreement(predictions: ArrayLike) -> Array:
    """The distance between m predictions [m, n, k, 2] of the same images: [n].

    Root mean squared distance from their mean, in sizes of the mean pose and at most one, averaged over keypoints.
    """
    places = np.asarray(predictions, np.float64)
    mean = places.mean(axis=0)
    apart = np.sqrt(np.square(places - mean).sum(axis=3).mean(axis=0))
    centred = mean - mean.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(centred).sum(axis=2).mean(axis=1, keepdims=True))
    return np.asarray(np.minimum(apart / np.maximum(size, 1.0), 1).mean(axis=1))


def dropout_predictions(
    network: HeatmapNet, finest: Tensor, generator: torch.Generator, passes: int = PASSES, rate: float = DROPOUT
) -> Tensor:
    """Predictions [passes, b, k, 2] with whole channels of the last map [b, c, h, w] dropped at random.

    Monte Carlo dropout (Gal & Ghahramani, ICML 2016) put into a network that was trained without any, as Loquercio et
    al. (RA-L 2020) do, before its last layer.
    """
    shape = (passes, *finest.shape[:2], 1, 1)
    kept = (torch.rand(shape, generator=generator) >= rate).to(finest) / (1 - rate)
    return torch.stack([peak_mean(network.heatmaps(finest * mask)) for mask in kept])


def gaussian_likelihood(log_scales: Tensor, errors: Tensor) -> Tensor:
    """Mean of e^2 / (2 s^2) + 2 log s over keypoints whose error e is known, a scalar (Kendall & Gal, NeurIPS 2017).

    log_scales: [b, k], logs of s, one for both axes; errors: [b, k] distances, NaN where not annotated.
    """
    there = ~torch.isnan(errors)
    scales, squared = log_scales[there].clamp(-math.log(1e3), math.log(1e3)), errors[there].square()
    return (squared * torch.exp(-2 * scales) / 2 + 2 * scales).mean()


class LocalScaleHead(nn.Module):
    """Predicts the log error scale of each keypoint from the maps at its place, the source of the prediction itself."""

    def __init__(self, channels: int, keypoints: int, width: int = 64) -> None:
        super().__init__()
        self.enter, self.own = nn.Linear(channels, width), nn.Parameter(torch.zeros(keypoints, width))
        self.out = nn.Linear(width, 1)

    def forward(self, local: Tensor) -> Tensor:
        """local: [b, k, channels] -> [b, k]."""
        scales: Tensor = self.out(functional.gelu(self.enter(local) + self.own))
        return scales.squeeze(2)


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), SMALLEST_SPREAD))
