"""The loss head for keypoints: a score for every keypoint, and a score for the image that follows from them.

`models.networks.heatmap_features` of a frozen heatmap network -> one token for every keypoint -> attention among the
tokens -> scores. A keypoint's score estimates the log of its loss, up to a constant. The score of the image is the log
of the mean of their exponentials, because the loss of an image is the mean over its keypoints.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.heatmap_features import Readings, read
from models.networks.regressors import Features

Part = Literal["local", "shape", "rivals", "geometry", "context", "pose", "identity"]
PARTS: tuple[Part, ...] = ("local", "shape", "rivals", "geometry", "context", "pose", "identity")
# The head memorised the columns of the whole image: without them cross-validation is better (docs/detection.md).
USUAL_PARTS: tuple[Part, ...] = ("local", "shape", "rivals", "geometry", "identity")
FARTHEST = 5.0  # standard deviations: readings are clipped there
# Of a column, absolute and as a share of its mean: dividing by less would turn rounding errors into scores.
SMALLEST_SPREAD, SMALLEST_SHARE = 5e-4, 1e-2


@dataclass(frozen=True, slots=True)
class KeypointHeadConfig:
    """`sizes`: columns of each part of the readings, in their order; `limbs`: pairs of keypoints."""

    sizes: tuple[int, ...]
    keypoints: int
    limbs: tuple[tuple[int, int], ...]
    parts: tuple[Part, ...] = USUAL_PARTS
    bounded: bool = False  # losses are at most 1, so scores, their logs, are at most 0
    width: int = 64
    blocks: int = 1  # of attention among the keypoints
    dropout: float = 0.2


class KeypointLossHead(nn.Module):
    """See the module. Call `standardise` before training."""

    def __init__(self, config: KeypointHeadConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        width = config.width
        self.standards = nn.ModuleDict({part: Standard(size) for part, size in self._sizes()})
        self.enter = nn.ModuleDict({part: nn.Linear(size, width) for part, size in self._sizes()})
        self.identity = nn.Parameter(0.1 * torch.randn(config.keypoints, width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Attention(width, config.dropout) for _ in range(config.blocks)))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Scores of keypoints [b, k] and of images [b]."""
        return self.scores(read(features, self.config.limbs))

    def scores(self, readings: Readings) -> tuple[Tensor, Tensor]:
        """The same, from readings instead of features."""
        scores = self.out(self.blocks(self._tokens(readings))).squeeze(2)
        if self.config.bounded:
            scores = functional.logsigmoid(scores)
        return scores, scores.logsumexp(dim=1) - math.log(self.config.keypoints)

    def standardise(self, readings: Readings) -> None:
        """Sets mean and spread of every column from the training data."""
        for part, _ in self._sizes():
            self.standards[part].fit(getattr(readings, part))  # type: ignore[operator] # a Standard

    def _tokens(self, readings: Readings) -> Tensor:
        """[b, k, width]; parts of the image are the same for all of its keypoints."""
        entered = [self.enter[part](self.standards[part](getattr(readings, part))) for part, _ in self._sizes()]
        whole = [one if one.ndim == 3 else one.unsqueeze(1) for one in entered]  # noqa: PLR2004 - [b, k, width]
        tokens: Tensor = functools.reduce(torch.add, whole)
        if "identity" in self.config.parts:
            tokens = tokens + self.identity
        entered_tokens: Tensor = self.dropout(functional.gelu(tokens.expand(-1, self.config.keypoints, -1)))
        return entered_tokens

    def _sizes(self) -> list[tuple[Part, int]]:
        pairs = zip(PARTS, self.config.sizes, strict=False)
        return [(part, size) for part, size in pairs if part in self.config.parts]


class Standard(nn.Module):
    """Columns in standard deviations from their mean, clipped at `FARTHEST`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, columns: Tensor) -> Tensor:
        """columns: [..., size]."""
        standard = (columns - self.get_buffer("mean")) * self.get_buffer("scale")
        return standard.clamp(-FARTHEST, FARTHEST)

    def fit(self, columns: Tensor) -> None:
        rows = columns.float().flatten(0, -2)
        mean = rows.mean(dim=0)
        least = (SMALLEST_SHARE * mean.abs()).clamp(min=SMALLEST_SPREAD)
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("scale").copy_(1 / torch.maximum(rows.std(dim=0), least))


class Attention(nn.Module):
    """A transformer block over the keypoints of an image (Vaswani et al. 2017, with the normalisation first)."""

    def __init__(self, width: int, dropout: float, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.alone = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [b, k, width]."""
        tokens = tokens + self.dropout(self._attend(self.first(tokens)))
        alone: Tensor = self.dropout(self.alone(self.second(tokens)))
        return tokens + alone

    def _attend(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in self.mix(tokens).chunk(3, dim=2)
        )  # [b, heads, k, width / heads]
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(dim=3)
        joined: Tensor = self.join((weights @ value).transpose(1, 2).flatten(2))
        return joined


def _check(config: KeypointHeadConfig) -> None:
    unknown = set(config.parts) - set(PARTS)
    if unknown or not set(config.parts) & set(Readings._fields):
        raise ValueError(
            f"a keypoint head reads some of {', '.join(PARTS)}, not {', '.join(config.parts) or 'nothing'}"
        )
    if len(config.sizes) != len(Readings._fields):
        raise ValueError(f"sizes are needed for {', '.join(Readings._fields)}: got {len(config.sizes)}")


def reading_sizes(map_channels: Sequence[int], embedding_size: int, keypoints: int, limbs: int) -> tuple[int, ...]:
    """`KeypointHeadConfig.sizes` for a regressor: see `models.networks.heatmap_features`."""
    maps = sum(map_channels)
    return maps, SHAPES, 2 * keypoints, 2 * keypoints + 4, maps + embedding_size, limbs + 1 + keypoints + SHAPES


SHAPES = 17  # columns of `Readings.shape`
