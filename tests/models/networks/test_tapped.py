import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.calibration.loss_map import fit_loss_map
from models.calibration.ood import fit_gaussian
from models.contract.manifest import Preprocessing, Task
from models.networks.forecast_graph import ForecastGraph
from models.networks.loss_head import LossHeadConfig, build_loss_head
from models.networks.regressors import normalise
from models.networks.tapped import TappedRegressor
from models.publishing.export import export_onnx

CANVAS = Preprocessing(height=32, width=24, channels=3)
AGES = Task(name="ages", kind="vector", names=("age", "height"), units=("years", "cm"))


class Foreign(nn.Module):
    """A network as users have them: it knows nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.Dropout(0.5))
        self.spare = nn.Linear(3, 3)
        self.out = nn.Linear(12, 2)

    def forward(self, images: Tensor) -> Tensor:
        ages: Tensor = self.out(self.body(self.stem(images)).mean(dim=(2, 3)))
        return ages


@pytest.fixture
def base() -> Foreign:
    torch.manual_seed(0)
    return Foreign()


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (5, 32, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_prediction_is_that_of_the_network_alone_to_the_bit(base: Foreign, images: Tensor) -> None:
    tapped = TappedRegressor(base, ["stem", "body"], AGES, CANVAS, mean=(96.0,), std=(64.0,))
    features = tapped.train()(normalise(images))
    alone = base.eval()((images.permute(0, 3, 1, 2).float().contiguous() - 96) / 64)
    assert torch.equal(features.prediction, alone)
    assert not any(parameter.requires_grad for parameter in tapped.parameters())


def test_maps_come_finest_first_whatever_the_order_of_the_names(base: Foreign, images: Tensor) -> None:
    tapped = TappedRegressor(base, ["out", "body", "stem"], AGES, CANVAS)
    features = tapped(normalise(images))
    assert [tuple(one.shape[1:]) for one in features.maps] == [(8, 16, 12), (12, 8, 6), (2, 1, 1)]
    assert tapped.map_channels == (8, 12, 2)
    assert features.embedding.shape == (5, tapped.embedding_size)


def test_the_network_gets_pixels_as_its_owner_scales_them(base: Foreign, images: Tensor) -> None:
    seen: list[Tensor] = []
    base.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    TappedRegressor(base, ["stem"], AGES, CANVAS, mean=(10, 20, 30), std=(1, 2, 4))(normalise(images))
    pixels = images.permute(0, 3, 1, 2).float()
    expected = (pixels - torch.tensor([10, 20, 30])[:, None, None]) / torch.tensor([1, 2, 4])[:, None, None]
    torch.testing.assert_close(seen[-1], expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["stem", "bodi"], "has no layer 'bodi': did you mean body"),
        (["xyz"], "has no layer 'xyz': there are stem, stem.0"),
        ([], "at least one layer"),
        ("stem", "at least one layer to read, in a list"),
        (["spare"], "does not use its layer 'spare'"),
    ],
)
def test_a_layer_that_cannot_be_read_is_refused(base: Foreign, layers: list[str] | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TappedRegressor(base, layers, AGES, CANVAS)


def test_a_layer_without_a_map_is_refused() -> None:
    base = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (2, -1)), nn.Linear(2304, 2))
    with pytest.raises(ValueError, match=r"layer '0' gives \[4608\]"):
        TappedRegressor(base, ["0"], AGES, CANVAS)


def test_a_prediction_of_another_shape_is_refused(base: Foreign) -> None:
    points = Task(name="points", kind="keypoints", names=("a", "b"), units=("px",))
    with pytest.raises(ValueError, match=r"gives \[2, 2\] for two canvases, not \[2, 2, 2\]"):
        TappedRegressor(base, ["stem"], points, CANVAS)


def test_a_tapped_network_is_not_trained(base: Foreign, images: Tensor) -> None:
    tapped = TappedRegressor(base, ["stem"], AGES, CANVAS)
    with pytest.raises(ValueError, match="only its loss head"):
        tapped.training_loss(tapped(normalise(images)), torch.zeros(5, 2))


@pytest.mark.slow
def test_it_exports_like_any_regressor(base: Foreign) -> None:
    rng = np.random.default_rng(0)
    tapped = TappedRegressor(base, ["stem", "body"], AGES, CANVAS)
    head = build_loss_head(LossHeadConfig(tapped.map_channels))
    score_map = fit_loss_map(rng.normal(size=200), rng.exponential(size=200))
    reference = fit_gaussian(rng.normal(size=(200, tapped.embedding_size)))
    assert export_onnx(ForecastGraph(tapped, head, score_map, reference), CANVAS.canvas_shape)


class Tokens(nn.Module):
    """Gives [b, n, c], as a transformer's block does."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(24, 7)
        self.out = nn.Linear(7, 2)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.block(images.flatten(1, 2))
        ages: Tensor = self.out(tokens.mean(dim=1))
        return ages


def test_tokens_are_read_as_a_map_of_one_column(images: Tensor) -> None:
    features = TappedRegressor(Tokens(), ["block"], AGES, CANVAS)(normalise(images))
    assert [tuple(one.shape) for one in features.maps] == [(5, 7, 96, 1)]


def test_maps_of_many_cells_are_averaged_down(images: Tensor) -> None:
    base = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 32 * 24, 2))
    features = TappedRegressor(base, ["0"], AGES, CANVAS)(normalise(images))
    assert [tuple(one.shape) for one in features.maps] == [(5, 2, 16, 12)]
