"""The tutorial's own code, on a network of no package here, and all that can be wrong with what a user brings."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from models.adoption import adopt
from models.contract.bundle import read_manifest, read_onnx
from models.contract.loss_definition import KeypointLoss, LossDefinition, VectorLoss
from models.contract.manifest import Loss, Preprocessing, Task
from models.contract.signals import SIGNALS
from models.networks.regressors import normalise
from models.networks.tapped import TappedRegressor
from models.publishing.export import run_onnx
from models.tasks.loaded import DataError
from models.training.config import TrainingConfig

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "adopt.md"
SIDE = 32
TILT = Task(name="tilt", kind="vector", names=("tilt",), units=("degrees",))
CORNER = Task(name="corner", kind="keypoints", names=("corner",), units=("px",))
DEGREES = Loss(name="absolute error", unit="degrees", failure_level=10.0)
PIXELS = Loss(name="distance", unit="px", failure_level=4.0)
BRIEF = TrainingConfig(head_views=1, head_epochs=2)


def blocks(name: str) -> str:
    """The tutorial's block of Python behind the comment with that name."""
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def tilted(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Digits turned by known angles: images uint8 [n, 32, 32, 1], degrees [n, 1]."""
    rng = np.random.default_rng(seed)
    glyphs = load_digits().images[rng.integers(0, 1797, n)]
    angles = rng.uniform(-45, 45, n)
    images = [turned(cv2.resize(glyph * 15, (SIDE, SIDE)), angle) for glyph, angle in zip(glyphs, angles, strict=True)]
    return torch.from_numpy(np.stack(images)[..., None]), torch.from_numpy(angles.astype(np.float32))[:, None]


def turned(image: np.ndarray, angle: float) -> np.ndarray:
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, 0.7)
    return cv2.warpAffine(image, turn, (SIDE, SIDE)).astype(np.uint8)


def prepare(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float().clone(memory_format=torch.contiguous_format) / 255


def small_network(outputs: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, outputs),
    )


def loader(data: tuple[Tensor, ...]) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*data), batch_size=64)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Trained for seconds, as somebody else would have."""
    torch.manual_seed(0)
    made = small_network()
    images, angles = tilted(1000, seed=1)
    optimizer = torch.optim.Adam(made.parameters(), 2e-3)
    for _ in range(15):
        for rows in torch.split(torch.randperm(len(images)), 50):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.smooth_l1_loss(made(prepare(images[rows])), angles[rows]))
            optimizer.step()
    return made


@pytest.fixture(scope="module")
def splits() -> dict[str, Any]:
    return {"head": tilted(400, seed=2), "calibration": tilted(300, seed=3), "test": tilted(200, seed=4)}


def adopted(network: nn.Module, splits: dict[str, Any], store: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {
        "layers": ["0", "1"],
        "task": TILT,
        "loss": DEGREES,
        "sample_loss": lambda preds, targets: (preds - targets).abs().squeeze(1),
        "data": {split: loader(data) for split, data in splits.items()},
        "store": store,
        "config": BRIEF,
    }
    return adopt(network, **{**given, **changes})


@pytest.mark.slow
def test_the_tutorial_makes_a_bundle_that_knows_its_failures(
    tmp_path: Path, network: nn.Module, splits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(network.state_dict(), "tilt.pt")
    loaders = {f"{split}_loader": loader(data) for split, data in splits.items()}
    names: dict[str, Any] = {**loaders}
    exec(blocks("network"), names)  # noqa: S102 - our own documentation
    exec(blocks("adopt"), names)  # noqa: S102 - as above
    manifest = read_manifest(tmp_path / "bundles" / "tilt" / "1")
    assert names["folder"].resolve() == (tmp_path / "bundles" / "tilt" / "1").resolve()
    assert manifest.task == TILT
    assert manifest.loss.definition == VectorLoss(error="absolute")
    assert tuple(manifest.drift_reference) == SIGNALS[:-2]
    assert manifest.evaluation["rank_correlation_low"] > 0
    assert manifest.evaluation["failure_auroc_low"] > 0.5
    images, _ = splits["test"]
    outputs = run_onnx(read_onnx(names["folder"], manifest), images.numpy())
    with torch.no_grad():
        expected = network.eval()(prepare(images)).numpy()
    np.testing.assert_allclose(outputs["prediction"], expected, rtol=1e-4, atol=1e-3)


def test_predictions_are_bit_identical_with_and_without_the_head(network: nn.Module, splits: dict[str, Any]) -> None:
    images, _ = splits["head"]
    with torch.no_grad():
        bare = network.eval()(prepare(images))
        canvas = Preprocessing(height=SIDE, width=SIDE, channels=1)
        seen = TappedRegressor(network, ["1", "0"], TILT, canvas)(normalise(images))
    assert torch.equal(seen.prediction, bare)


@pytest.mark.slow
def test_a_network_of_keypoints_is_adopted_as_well_and_frozen(tmp_path: Path, splits: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(small_network(2), nn.BatchNorm1d(2), nn.Unflatten(1, (1, 2))).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = {
        split: (images, torch.rand(len(images), 1, 2) * SIDE, torch.full((len(images), 2), 640))
        for split, (images, _) in splits.items()
    }
    folder = adopted(
        network,
        data,
        tmp_path,
        layers=["0.1"],
        task=CORNER,
        loss=PIXELS,
        sample_loss=lambda preds, targets: (preds - targets).norm(dim=2).squeeze(1),
    )
    manifest = read_manifest(folder)
    assert manifest.task.kind == "keypoints"
    assert manifest.drift_reference["size"].values[0] == pytest.approx(np.log(640), abs=0.01)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Restless(nn.Module):
    """Changes its own buffer at every call, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        prediction: Tensor = self.inner(images)
        return prediction + self.calls


class Counting(Restless):
    """Changes a buffer too, but not its answers."""

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        prediction: Tensor = self.inner(images)
        return prediction


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(images), images


class Spoilt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network()

    def forward(self, images: Tensor) -> Tensor:
        prediction: Tensor = self.inner(images)
        return prediction / 0


BROKEN_NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "no layer 'stem'": (small_network, {"layers": ["stem"]}),
    "name at least one layer": (small_network, {"layers": []}),
    r"gives \[2, 3\] for two canvases, not \[2, 1\]": (lambda: small_network(3), {}),
    "differently each time": (Restless, {"layers": ["inner.0"]}),
    "returns tuple": (Pair, {"layers": ["inner.0"]}),
    "predicts NaN": (Spoilt, {"layers": ["inner.0"]}),
    "changes when it is used, in calls": (Counting, {"layers": ["inner.0"]}),
    "std has 3 values: give one": (small_network, {"std": (1, 2, 4)}),
}


@pytest.mark.parametrize("message", BROKEN_NETWORKS)
def test_a_network_that_cannot_be_adopted_is_refused_before_training(
    tmp_path: Path, splits: dict[str, Any], message: str
) -> None:
    build, changes = BROKEN_NETWORKS[message]
    with pytest.raises(ValueError, match=message):
        adopted(build(), splits, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def negative(preds: Tensor, targets: Tensor) -> Tensor:
    return (preds - targets).squeeze(1) - 1000


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (VectorLoss(error="squared"), "correct its definition, or leave it out"),
        (KeypointLoss(), "tilt has vector, but declares a loss of keypoints"),
    ],
)
def test_a_loss_that_is_declared_otherwise_than_it_is_computed_is_refused_before_training(
    tmp_path: Path, splits: dict[str, Any], definition: LossDefinition, message: str
) -> None:
    steps: list[int] = []
    with pytest.raises(ValueError, match=message):
        adopted(
            small_network(),
            splits,
            tmp_path,
            loss=DEGREES.model_copy(update={"definition": definition}),
            progress=lambda _what, done, _total: steps.append(done),
        )
    assert not steps


BROKEN_LOSSES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    r"the loss gives \[300, 1\] for 300 samples": lambda preds, targets: (preds - targets).abs(),
    "the loss gives float": lambda preds, targets: float((preds - targets).abs().mean()),
    "of 300 samples is not finite": lambda preds, targets: (preds - targets).abs().squeeze(1) / 0,
    "must not be negative": negative,
    "true losses are 1: there is nothing": lambda preds, _targets: torch.ones(len(preds)),
    "true losses are 0: there is nothing": lambda preds, _targets: torch.zeros(len(preds)),
}


@pytest.mark.parametrize("message", BROKEN_LOSSES)
def test_a_loss_that_nothing_can_be_learned_from_is_refused_before_training(
    tmp_path: Path, splits: dict[str, Any], message: str
) -> None:
    steps: list[int] = []
    with pytest.raises(ValueError, match=message):
        adopted(
            small_network(),
            splits,
            tmp_path,
            sample_loss=BROKEN_LOSSES[message],
            progress=lambda _what, done, _total: steps.append(done),
        )
    assert not steps


FAR = 1e9
BROKEN_MEASURES: dict[str, tuple[str, Callable[[tuple[Tensor, Tensor]], Any]]] = {
    "the calibration split: all 300 true losses are 0": ("calibration", lambda data: (data[0], 0 * data[1] + FAR)),
    "the test split: all 200 true losses are 0": ("test", lambda data: (data[0], 0 * data[1] + FAR)),
    "the calibration split: the loss of 300 of 300 samples is not finite": (
        "calibration",
        lambda data: (data[0], 0 * data[1] - FAR),
    ),
    "the calibration split: 98 calibration scores .* at least 99 are needed": (
        "calibration",
        lambda data: (data[0][:98], data[1][:98]),
    ),
    "the test split of tilt has targets that are not finite": ("test", lambda data: (data[0], data[1] / 0)),
}


@pytest.mark.parametrize("message", BROKEN_MEASURES)
def test_a_split_that_nothing_can_be_measured_on_is_refused_before_training(
    tmp_path: Path, splits: dict[str, Any], message: str
) -> None:
    def loss(preds: Tensor, targets: Tensor) -> Tensor:
        errors = (preds - targets).abs().squeeze(1)
        return torch.where(targets.squeeze(1) == FAR, 0, torch.where(targets.squeeze(1) == -FAR, torch.nan, errors))

    steps: list[int] = []
    split, spoil = BROKEN_MEASURES[message]
    with pytest.raises(ValueError, match=message):
        adopted(
            small_network(),
            splits | {split: spoil(splits[split])},
            tmp_path,
            sample_loss=loss,
            progress=lambda _what, done, _total: steps.append(done),
        )
    assert not steps


def test_a_store_that_cannot_take_the_bundle_is_refused_before_training(tmp_path: Path, splits: dict[str, Any]) -> None:
    (tmp_path / "file").touch()
    steps: list[int] = []
    with pytest.raises(ValueError, match="cannot be written to as a bundle store"):
        adopted(small_network(), splits, tmp_path / "file", progress=lambda _what, done, _total: steps.append(done))
    assert not steps


def used_up(_data: tuple[Tensor, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    yield from ()


BROKEN_DATA: dict[str, Callable[[tuple[Tensor, Tensor]], Any]] = {
    "the loader of head gives nothing": used_up,
    r"images torch.float32 \[400, 32, 32, 1\]": lambda data: [(data[0].float(), data[1])],
    r"images torch.uint8 \[400, 32, 32\]": lambda data: [(data[0][..., 0], data[1])],
    "400 images and 399 targets": lambda data: [(data[0], data[1][1:])],
    "batch 0 of head is not a pair": lambda data: [data[0]],
    r"sizes that are not whole numbers \[400, 2\]": lambda data: [(*data, torch.ones(400, 2))],
    "a size below one pixel": lambda data: [(*data, torch.zeros(400, 2).long())],
    "batch 1 of head and those before it must all have sizes": lambda data: [(*data, torch.ones(400, 2).long()), data],
    r"targets \[400, 2\], not \[400, 1\]": lambda data: [(data[0], data[1].repeat(1, 2))],
    "targets that are not finite": lambda data: [(data[0], data[1] * float("nan"))],
    "images of calibration are": lambda data: [(data[0][:, :16], data[1])],
    r"\[b, height, width, 1 or 3\]": lambda data: [(data[0].repeat(1, 1, 1, 2), data[1])],
    "batch 1 of head has images and targets of other shapes": lambda data: [data, (data[0][:, :16], data[1])],
}


@pytest.mark.parametrize("message", BROKEN_DATA)
def test_data_that_cannot_be_used_are_refused_before_training(
    tmp_path: Path, splits: dict[str, Any], message: str
) -> None:
    data = {split: loader(columns) for split, columns in splits.items()}
    with pytest.raises(ValueError, match=message):
        adopted(small_network(), splits, tmp_path, data=data | {"head": BROKEN_DATA[message](splits["head"])})


def test_a_missing_split_is_named(tmp_path: Path, splits: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="data must hold head, calibration, test, not head"):
        adopted(small_network(), splits, tmp_path, data={"head": loader(splits["head"])})
