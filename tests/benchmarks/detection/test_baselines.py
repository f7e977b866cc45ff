"""The rivals: distances, disagreement, dropout, and a head of variances."""

import numpy as np
import pytest
import torch

from benchmarks.detection.baselines import (
    LocalScaleHead,
    disagreement,
    dropout_predictions,
    gaussian_likelihood,
    nearest_distance,
)
from models.networks.heatmap import HeatmapNet, HeatmapNetConfig

RNG = np.random.default_rng(0)


def test_what_lies_off_the_reference_is_far_from_its_neighbours() -> None:
    along = RNG.normal(0, 1, (200, 1))
    reference = np.hstack([along, along + RNG.normal(0, 0.05, (200, 1))])
    near, far = nearest_distance(reference[:20] * 1.1, reference), nearest_distance([[1.0, -1.0]], reference)
    assert np.quantile(near, 0.9) < 0.2
    assert far[0] > 0.4


def test_more_neighbours_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="10 neighbours"):
        nearest_distance(np.zeros((1, 2)), np.zeros((5, 2)))


def test_networks_that_agree_have_no_disagreement_and_others_have_it_in_sizes_of_the_pose() -> None:
    pose = np.array([[[0.0, 0.0], [20.0, 0.0]]])
    assert disagreement(np.stack([pose, pose])).tolist() == [0.0]
    assert disagreement(np.stack([pose + 2, pose - 2])).tolist() == pytest.approx([np.sqrt(8) / 10])


def test_dropout_spreads_predictions_and_a_rate_of_zero_does_not() -> None:
    torch.manual_seed(0)
    net = HeatmapNet(HeatmapNetConfig(3, widths=(4, 6, 8, 8, 10), decoder=6)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        features = net(torch.randn(2, 3, 64, 64))
        still = dropout_predictions(net, features.maps[0], generator, 3, 0.0)
        moved = dropout_predictions(net, features.maps[0], generator, 3, 0.5)
    assert torch.allclose(still[0], features.prediction, atol=1e-4)
    assert float(moved.std(dim=0).max()) > 0


def test_the_likeliest_scale_is_the_root_of_half_the_mean_squared_error() -> None:
    errors = torch.tensor([[1.0, 3.0, float("nan")]])
    best = torch.full((1, 3), float(np.log(np.sqrt(5 / 2))), requires_grad=True)
    slope = torch.autograd.grad(gaussian_likelihood(best, errors), best)[0]
    assert float(slope.sum()) == pytest.approx(0, abs=1e-5)


def test_a_scale_head_gives_a_number_for_every_keypoint() -> None:
    assert LocalScaleHead(5, 3)(torch.zeros(2, 3, 5)).shape == (2, 3)
