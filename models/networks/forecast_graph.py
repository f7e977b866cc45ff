"""The whole forecast as one module: uint8 canvases in, everything that the service reads out.

Calibration map and OOD distance are plain tensor operations here, so that they end up in the ONNX file
and whoever runs it gets the same numbers.
"""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.keypoint_head import KeypointLossHead
from models.networks.loss_head import LossHead
from models.networks.regressors import Features, Regressor, normalise


class ScoreMap(Protocol):
    """What the graph needs of a fitted loss map; `models.calibration.loss_map.LossMap` says what each part means."""

    @property
    def knots(self) -> NDArray[np.float32]: ...
    @property
    def values(self) -> NDArray[np.float32]: ...
    @property
    def slopes(self) -> NDArray[np.float32]: ...
    @property
    def widths(self) -> NDArray[np.float32]: ...
    @property
    def left_rate(self) -> float | NDArray[np.float32]: ...


class Reference(Protocol):
    """What the graph needs of the embeddings' reference: `models.calibration.ood.Gaussian`."""

    @property
    def mean(self) -> NDArray[np.float32]: ...
    @property
    def whitening(self) -> NDArray[np.float32]: ...


KEYPOINT = "keypoint_"  # before the names of what maps the scores of keypoints


class GraphOutputs(NamedTuple):
    """The ONNX outputs, in order; all float32, batch axis first."""

    prediction: Tensor  # [b, k, 2] in canvas pixels, or [b, k]
    score: Tensor  # [b]
    predicted_loss: Tensor  # [b]
    ood_score: Tensor  # [b]
    embedding: Tensor  # [b, e]
    keypoint_loss: Tensor | None = None  # [b, k], of heads that score keypoints; else there is no such output


class ForecastGraph(nn.Module):
    """Regressor, loss head, loss map and OOD distance in eval mode.

    keypoint_map: of the scores of keypoints, each with a row of its own, for a head that has them; without it they
    are no output.
    """

    def __init__(
        self,
        regressor: Regressor,
        head: LossHead | KeypointLossHead,
        score_map: ScoreMap,
        reference: Reference,
        keypoint_map: ScoreMap | None = None,
    ) -> None:
        super().__init__()
        self.regressor = regressor
        self.head = head
        self.keypoints = keypoint_map is not None
        constants = _constants(score_map) | {"mean": reference.mean, "whitening": reference.whitening}
        if keypoint_map is not None:
            constants |= {KEYPOINT + name: values for name, values in _constants(keypoint_map).items()}
        self.calibration = nn.Module()  # a folder: names in it are apart from those that the exporter gives to results
        for name, values in constants.items():
            self.calibration.register_buffer(name, torch.from_numpy(np.array(values, np.float32)))
        self.eval()

    def forward(self, image: Tensor) -> GraphOutputs:
        """image: uint8 [b, height, width, channels]."""
        seen: Features = self.regressor(normalise(image))
        keypoint_scores, score = self._scores(seen)
        whitened = (seen.embedding - self.calibration.get_buffer("mean")) @ self.calibration.get_buffer("whitening").T
        distance = whitened.square().sum(dim=1).sqrt()
        keypoint_loss = None if keypoint_scores is None else self._predicted_loss(keypoint_scores, KEYPOINT)
        return GraphOutputs(
            seen.prediction, score, self._predicted_loss(score), distance, seen.embedding, keypoint_loss
        )

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` gives, in order."""
        return [name for name in GraphOutputs._fields if name != "keypoint_loss" or self.keypoints]

    def _scores(self, seen: Features) -> tuple[Tensor | None, Tensor]:
        if not isinstance(self.head, KeypointLossHead):
            return None, self.head(seen.maps)
        keypoints, image = self.head(seen)
        return (keypoints if self.keypoints else None), image

    def _predicted_loss(self, score: Tensor, prefix: str = "") -> Tensor:
        """The loss map, term by term as `models.calibration.loss_map.LossMap` defines it: every term is monotone."""
        knots, start, rate, slopes, widths = (
            self.calibration.get_buffer(prefix + name) for name in ("knots", "start", "left_rate", "slopes", "widths")
        )
        distance = score.unsqueeze(score.ndim) - knots
        left = start * torch.exp(rate * distance[..., 0].clamp(max=0))
        rise = torch.minimum(distance.clamp(min=0), widths) * slopes
        return left + rise.sum(dim=score.ndim)


def _constants(score_map: ScoreMap) -> dict[str, NDArray[np.float32]]:
    return {
        "knots": score_map.knots,
        "start": score_map.values[..., 0],
        "left_rate": np.asarray(score_map.left_rate, np.float32),
        "slopes": score_map.slopes,
        "widths": score_map.widths,
    }
