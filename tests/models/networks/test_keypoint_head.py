"""A keypoint head: its readings, the score of the image, and its export."""

import io

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from models.networks.heatmap import HeatmapNet, HeatmapNetConfig
from models.networks.heatmap_features import ENTROPY, EXPECTED, Readings, read
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead, reading_sizes
from models.networks.regressors import Features

LIMBS = ((0, 1), (1, 2))
NETWORK = HeatmapNetConfig(keypoints=3, widths=(4, 6, 8, 8, 10), decoder=6)


def network() -> HeatmapNet:
    torch.manual_seed(0)
    return HeatmapNet(NETWORK).eval()


def head(net: HeatmapNet, **changes: object) -> KeypointLossHead:
    sizes = reading_sizes(net.map_channels, net.embedding_size, 3, len(LIMBS))
    torch.manual_seed(0)
    return KeypointLossHead(KeypointHeadConfig(sizes, 3, LIMBS, **changes)).eval()  # type: ignore[arg-type] # by name


def features(count: int = 4) -> Features:
    with torch.no_grad():
        found: Features = network()(torch.randn(count, 3, 64, 96, generator=torch.Generator().manual_seed(1)))
    return found


def bump(x: float, y: float) -> Tensor:
    """A heatmap of 16 x 16 cells around a cell."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    return -((columns - x) ** 2 + (rows - y) ** 2) / 2


def test_readings_have_the_sizes_that_a_head_is_told() -> None:
    net = network()
    sizes = reading_sizes(net.map_channels, net.embedding_size, 3, len(LIMBS))
    assert tuple(part.shape[-1] for part in read(features(), LIMBS)) == sizes


def test_the_local_reading_is_the_map_at_the_predicted_place() -> None:
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 3, 9] = 7.0  # centre of the cell: x = 38, y = 14
    seen = Features(torch.tensor([[[38.0, 14.0], [2.0, 2.0]]]), (maps,), torch.zeros(1, 1), torch.zeros(1, 2, 16, 16))
    assert read(seen, ((0, 1),)).local[0, :, 0].tolist() == pytest.approx([7.0, 0.0])


def test_a_second_peak_is_seen_only_where_there_is_one() -> None:
    one, two = bump(4, 4), torch.maximum(bump(4, 4), bump(12, 4) - 0.1)
    seen = Features(
        torch.full((1, 2, 2), 18.0), (torch.zeros(1, 1, 4, 4),), torch.zeros(1, 1), torch.stack((one, two))[None]
    )
    log_second, distance = read(seen, ((0, 1),)).shape[0, :, 2], read(seen, ((0, 1),)).shape[0, :, 4]
    assert log_second[1] > -1.5
    assert log_second[0] < -5
    assert float(distance[1]) == pytest.approx(8 / 16, abs=0.07)


def test_a_certain_heatmap_has_little_entropy() -> None:
    maps = torch.stack((bump(8, 8), torch.zeros(16, 16)))[None]
    seen = Features(torch.full((1, 2, 2), 18.0), (torch.zeros(1, 1, 4, 4),), torch.zeros(1, 1), maps)
    found = read(seen, ((0, 1),)).shape[0, :, ENTROPY]
    assert found.tolist() == pytest.approx([2.84, np.log(256)], abs=0.02)  # in nats


def test_the_expected_loss_of_a_heatmap_is_its_mean_clipped_distance_in_sizes_of_the_pose() -> None:
    maps = torch.full((1, 2, 16, 16), -50.0)
    maps[0, :, 4, 4] = maps[0, :, 4, 6] = 0.0  # two cells with half of the mass each, 8 px apart
    places = torch.tensor([[[18.0, 18.0], [58.0, 18.0]]])  # the size of this pose is 20 px
    seen = Features(places, (torch.zeros(1, 1, 4, 4),), torch.zeros(1, 1), maps)
    found = read(seen, ((0, 1),)).shape[0, :, EXPECTED:].exp()
    assert found[0].tolist() == pytest.approx([0.2, 0.4, 0.1], abs=1e-3)
    assert found[1].tolist() == pytest.approx([1.0, 1.0, 0.9], abs=1e-3)


def test_limb_ratios_and_offsets_do_not_depend_on_scale() -> None:
    places = torch.tensor([[[10.0, 10.0], [20.0, 10.0], [20.0, 30.0]]])
    seen = [
        read(Features(scale * places, (torch.zeros(1, 1, 4, 4),), torch.zeros(1, 1), torch.zeros(1, 3, 32, 32)), LIMBS)
        for scale in (1.0, 2.0)
    ]
    assert torch.allclose(seen[0].pose[:, :2], seen[1].pose[:, :2], atol=1e-5)
    assert torch.allclose(seen[0].geometry[..., :-2], seen[1].geometry[..., :-2], atol=1e-5)


def test_the_score_of_the_image_is_the_log_of_the_mean_predicted_loss() -> None:
    scores, image = head(network())(features())
    assert torch.allclose(image, scores.exp().mean(dim=1).log(), atol=1e-5)
    assert scores.shape == (4, 3)


def test_bounded_scores_are_logs_of_shares() -> None:
    with torch.no_grad():
        scores, image = head(network(), bounded=True)(features())
    assert float(scores.max()) < 0
    assert float(image.max()) < 0


def test_a_part_that_is_left_out_changes_nothing() -> None:
    readings = read(features(), LIMBS)
    blind = head(network(), parts=("shape", "identity"))
    other = readings._replace(local=readings.local + 3, geometry=-readings.geometry)
    assert torch.equal(blind.scores(readings)[0], blind.scores(other)[0])


def test_a_reading_far_beyond_the_training_data_counts_as_the_farthest() -> None:
    readings = read(features(32), LIMBS)
    one = head(network(), parts=("shape",))
    one.standardise(readings)
    far, farther = (Readings(*(part + 1e3 * times for part in readings)) for times in (1, 2))
    assert torch.equal(one.scores(far)[0], one.scores(farther)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"parts": ("identity",)}, "reads some of"), ({"parts": ("smell",)}, "reads some of")],
)
def test_an_unusable_configuration_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(network(), **changes)


def test_features_without_heatmaps_are_refused() -> None:
    with pytest.raises(ValueError, match="no heatmaps"):
        read(features()._replace(heatmaps=None), LIMBS)


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.head = head(self.network, parts=("local", "shape", "rivals", "geometry", "context", "pose", "identity"))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        scores: tuple[Tensor, Tensor] = self.head(self.network(images))
        return scores


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_gives_the_same_scores_at_every_batch_size() -> None:
    whole = Whole().eval()
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    options = {"dynamo": True, "dynamic_shapes": shapes, "optimize": False, "verbose": False}
    program = torch.onnx.export(whole, (torch.zeros(2, 3, 64, 64),), **options)  # type: ignore[arg-type] # by name
    assert program is not None
    buffer = io.BytesIO(program.model_proto.SerializeToString())
    session = ort.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7, 32):
        images = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected = whole(images)
        for ours, theirs in zip(expected, session.run(None, {"images": images.numpy()}), strict=True):
            assert np.abs(ours.numpy() - theirs).max() < 1e-4
