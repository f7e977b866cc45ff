"""The keypoint model of the benchmark: the project's own network, head, maps and distance, with random weights.

0.34 GFLOP for a canvas of 192x192 (171.7 million multiplications and additions). It costs what a trained one of its
size costs; what it says means nothing. Beside it the same network with zeros for all that forecasts the loss.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.calibration.loss_map import fit_keypoint_maps, fit_loss_map
from models.calibration.ood import fit_gaussian
from models.contract.manifest import Preprocessing
from models.networks.forecast_graph import ForecastGraph, GraphOutputs
from models.networks.heatmap import HeatmapNet, HeatmapNetConfig
from models.networks.heatmap_features import read
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead, reading_sizes
from models.networks.regressors import Features, normalise
from models.publishing.export import export_onnx
from models.tasks.pose import JOINTS, SKELETON

SPEC = Preprocessing(height=192, width=192, channels=3)
NETWORK = HeatmapNetConfig(keypoints=len(JOINTS), widths=(12, 20, 40, 72, 88), decoder=36)
EMBEDDING_SIZE = NETWORK.widths[1] + NETWORK.widths[-1]


def keypoint_onnx(canvases: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """ONNX with every output of a keypoint bundle, and of the same network without the forecast.

    canvases: uint8 [n, 192, 192, 3], to which the maps and the distance are fitted.
    """
    torch.manual_seed(0)
    network = HeatmapNet(NETWORK).eval()
    sizes = reading_sizes(network.map_channels, network.embedding_size, len(JOINTS), len(SKELETON))
    head = KeypointLossHead(KeypointHeadConfig(sizes, len(JOINTS), SKELETON)).eval()
    with torch.no_grad():
        seen: Features = network(normalise(torch.from_numpy(canvases)))
        head.standardise(read(seen, SKELETON))
        keypoint_scores, scores = (one.numpy() for one in head(seen))
    losses = _losses(keypoint_scores)
    parts = network, head, fit_loss_map(scores, losses.mean(axis=1)), fit_gaussian(seen.embedding.numpy())
    whole = ForecastGraph(*parts, fit_keypoint_maps(keypoint_scores, losses))
    return export_onnx(whole, SPEC.canvas_shape), export_onnx(_Bare(*parts), SPEC.canvas_shape)


class _Bare(ForecastGraph):
    def forward(self, image: Tensor) -> GraphOutputs:
        prediction = self.regressor(normalise(image)).prediction
        zero = torch.zeros_like(prediction[:, 0, 0])
        embedding = zero.unsqueeze(1).repeat(1, EMBEDDING_SIZE)
        return GraphOutputs(prediction, zero, zero + 1, zero + 2, embedding)


def _losses(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Losses that go with the scores as well as those of a good head do: maps then have their usual number of knots."""
    standard = (scores - scores.mean()) / scores.std() + np.random.default_rng(0).normal(0, 1, scores.shape)
    return np.asarray(1 / (1 + np.exp(-standard)), np.float64)
