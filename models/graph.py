"""The whole forecast as one module: uint8 canvases in, everything that the service reads out.

Calibration map and OOD distance are plain tensor operations here, so that they end up in the ONNX file
and whoever runs it gets the same numbers.
"""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.loss_head import LossHead
from models.regressors import Features, Regressor, normalise


class ScoreMap(Protocol):
    """What the graph needs of a fitted loss map; `models.calibration.LossMap` says what each part means."""

    @property
    def knots(self) -> NDArray[np.float32]: ...
    @property
    def values(self) -> NDArray[np.float32]: ...
    @property
    def slopes(self) -> NDArray[np.float32]: ...
    @property
    def widths(self) -> NDArray[np.float32]: ...
    @property
    def left_rate(self) -> float: ...


class Reference(Protocol):
    """What the graph needs of the embeddings' reference: `models.calibration.Gaussian`."""

    @property
    def mean(self) -> NDArray[np.float32]: ...
    @property
    def whitening(self) -> NDArray[np.float32]: ...


class Forecast(NamedTuple):
    """The ONNX outputs, in order; all float32, batch axis first."""

    prediction: Tensor  # [b, k, 2] in canvas pixels, or [b, k]
    score: Tensor  # [b]
    predicted_loss: Tensor  # [b]
    ood_score: Tensor  # [b]
    embedding: Tensor  # [b, e]


class ForecastGraph(nn.Module):
    """Regressor, loss head, loss map and OOD distance in eval mode."""

    def __init__(self, regressor: Regressor, head: LossHead, score_map: ScoreMap, reference: Reference) -> None:
        super().__init__()
        self.regressor = regressor
        self.head = head
        self.left_rate = score_map.left_rate
        constants = {
            "knots": score_map.knots,
            "start": score_map.values[:1],
            "slopes": score_map.slopes,
            "widths": score_map.widths,
            "mean": reference.mean,
            "whitening": reference.whitening,
        }
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(np.array(values, np.float32)))
        self.eval()

    def forward(self, image: Tensor) -> Forecast:
        """image: uint8 [b, height, width, channels]."""
        seen: Features = self.regressor(normalise(image))
        score = self.head(seen.maps)
        whitened = (seen.embedding - self.get_buffer("mean")) @ self.get_buffer("whitening").T
        distance = whitened.square().sum(dim=1).sqrt()
        return Forecast(seen.prediction, score, self._predicted_loss(score), distance, seen.embedding)

    def _predicted_loss(self, score: Tensor) -> Tensor:
        """The loss map, term by term as `models.calibration.LossMap` defines it: every term is monotone."""
        distance = score.unsqueeze(1) - self.get_buffer("knots")
        left = self.get_buffer("start") * torch.exp(self.left_rate * distance[:, 0].clamp(max=0))
        rise = torch.minimum(distance.clamp(min=0), self.get_buffer("widths")) * self.get_buffer("slopes")
        return left + rise.sum(dim=1)
