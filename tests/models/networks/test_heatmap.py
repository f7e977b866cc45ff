import numpy as np
import pytest
import torch

from models.calibration.loss_map import fit_loss_map
from models.calibration.ood import fit_gaussian
from models.networks.forecast_graph import ForecastGraph
from models.networks.heatmap import (
    STRIDE_PX,
    HeatmapNet,
    HeatmapNetConfig,
    cell_indices,
    heatmap_loss,
    peak_mean,
    window_mass,
)
from models.networks.loss_head import LossHeadConfig, build_loss_head
from models.networks.regressors import Features, normalise
from models.publishing.export import export_onnx

NAN = float("nan")


def bump(places: torch.Tensor, size: int = 32) -> torch.Tensor:
    """Logits of a Gaussian one cell wide around places [b, k, 2], in canvas pixels."""
    columns, rows = cell_indices(torch.zeros(size, size))
    x, y = (places / STRIDE_PX - 0.5)[..., None, None].unbind(dim=2)
    return -0.5 * ((columns - x) ** 2 + (rows - y) ** 2)


def test_features_have_the_sizes_that_the_network_announces() -> None:
    net = HeatmapNet(HeatmapNetConfig(keypoints=3)).eval()
    features = net(torch.zeros(2, 3, 128, 128))
    assert features.prediction.shape == (2, 3, 2)
    assert tuple(one.shape[1] for one in features.maps) == net.map_channels
    assert [one.shape[2] for one in features.maps] == [32, 16, 8, 4]
    assert features.embedding.shape == (2, net.embedding_size)
    assert features.heatmaps.shape == (2, 3, 32, 32)
    assert net.embedding_size <= 256


def test_the_mass_of_a_window_is_the_sum_of_its_cells_and_of_nothing_beyond_the_edge() -> None:
    mass = torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    summed = torch.nn.functional.avg_pool2d(mass, 5, 1, 2) * 25  # counts zeros beyond the edge
    torch.testing.assert_close(window_mass(mass, 2), summed)


def test_the_peak_is_found_between_cells_as_x_then_y() -> None:
    places = torch.tensor([[[37.0, 90.5], [64.0, 12.3]], [[12.0, 9.5], [110.7, 115.9]]])
    torch.testing.assert_close(peak_mean(bump(places)), places, atol=0.6, rtol=0)


def test_a_second_peak_does_not_pull_the_prediction() -> None:
    first, second = torch.tensor([[[30.0, 30.0]]]), torch.tensor([[[100.0, 100.0]]])
    logits = torch.logaddexp(bump(first) + 0.5, bump(second))
    torch.testing.assert_close(peak_mean(logits), first, atol=0.6, rtol=0)


def test_logits_of_any_size_are_decoded_without_overflow() -> None:
    assert torch.isfinite(peak_mean(1e4 * bump(torch.full((1, 1, 2), 50.0)))).all()


def test_the_loss_is_least_at_the_joint() -> None:
    target = torch.tensor([[[50.0, 70.0]]])
    losses = [heatmap_loss(bump(target + shift), target) for shift in (0.0, 4.0, 12.0)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1] - 0.1


def test_joints_that_are_missing_or_off_the_grid_cost_nothing_and_teach_nothing() -> None:
    logits = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[[50.0, 70.0], [NAN, NAN], [-3.0, 60.0]], [[NAN, NAN], [NAN, NAN], [60.0, 130.0]]])
    loss = heatmap_loss(logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch ships it without types
    torch.testing.assert_close(loss, heatmap_loss(logits[:1, :1], targets[:1, :1]))
    assert logits.grad is not None
    taught = logits.grad.abs().sum(dim=(2, 3)) > 0
    assert taught.tolist() == [[True, False, False], [False, False, False]]


def test_a_batch_without_any_joint_costs_nothing() -> None:
    logits = torch.randn(1, 2, 32, 32).requires_grad_()
    loss = heatmap_loss(logits, torch.full((1, 2, 2), NAN))
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch ships it without types
    assert loss == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_features_without_heatmaps_are_refused() -> None:
    features = Features(torch.zeros(1, 3, 2), (), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="without heatmaps"):
        HeatmapNet(HeatmapNetConfig(keypoints=3)).training_loss(features, torch.zeros(1, 3, 2))


@pytest.mark.slow
def test_the_export_agrees_with_pytorch_at_every_batch_size() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = HeatmapNet(HeatmapNetConfig(keypoints=14))
    with torch.no_grad():
        net.train()(normalise(torch.randint(0, 256, (16, 128, 128, 3), dtype=torch.uint8)))  # batch norm gets numbers
    head = build_loss_head(LossHeadConfig(net.map_channels))
    score_map = fit_loss_map(rng.normal(size=200), rng.exponential(size=200))
    reference = fit_gaussian(rng.normal(size=(300, net.embedding_size)))
    assert export_onnx(ForecastGraph(net, head, score_map, reference), (128, 128, 3))  # raises where they differ
