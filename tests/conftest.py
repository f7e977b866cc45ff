"""A real, tiny model that tests can read off: it sees brightness.

An 8x8 grey image of brightness b in [0, 1] gets score b, predicted loss exp(b), OOD score 1 - b, and
the two keypoints (2, 2) and (6, 6) in canvas pixels. It is lossy above b = 0.5, or below b = 0.1 as
out of distribution.
"""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import onnx.parser
import pytest
import stamina.instrumentation
from PIL import Image

from models.contract.bundle import publish
from models.contract.index import ModelIndex, write_index
from models.contract.manifest import (
    Loss,
    Manifest,
    OperatingPoint,
    OrderStatistics,
    Preprocessing,
    Provenance,
    Task,
)
from models.contract.reference import LossReference

BRIGHTNESS = """
<ir_version: 10, opset_import: ["" : 21]>
tiny (uint8[batch, 8, 8, 1] image) => (
    float[batch, 2, 2] prediction, float[batch] score, float[batch] predicted_loss, float[batch] ood_score,
    float[batch, 4] embedding
)
<float points = {8.0}, int64[3] axes = {1, 2, 3}, float full = {255.0}, float one = {1.0}, float zero = {0.0},
 int64[3] as_points = {-1, 1, 1}, int64[2] as_embedding = {-1, 1},
 float[1, 2, 2] places = {2.0, 2.0, 6.0, 6.0}, float[1, 4] directions = {1.0, 2.0, 3.0, 4.0}>
{
    pixels = Cast <to = 1> (image)
    mean = ReduceMean <keepdims = 0> (pixels, axes)
    score = Div (mean, full)
    predicted_loss = Exp (score)
    ood_score = Sub (one, score)
    column = Reshape (score, as_embedding)
    embedding = Mul (column, directions)
    cube = Reshape (score, as_points)
    nothing = Mul (cube, zero)
    prediction = Add (nothing, places)
}
"""

# A model that fails at certain images: at brightness .8 it raises, at .9 it gives NaN, at 1 it hangs.
FAULTY = BRIGHTNESS.replace(
    "predicted_loss = Exp (score)",
    """
    above_raises = Greater (score, raises_from)
    below_nans = Less (score, nans_from)
    raises = And (above_raises, below_nans)
    wrong = Cast <to = 7> (raises)
    index = Mul (wrong, far)
    looked_up = Gather (table, index)
    above_nans = Greater (score, nans_from)
    not_nan = Not (above_nans)
    alive = Cast <to = 1> (not_nan)
    zero_or_nan = Div (looked_up, alive)
    brightest = ReduceMax <keepdims = 0> (score)
    hangs = Greater (brightest, hangs_from)
    endless = Cast <to = 7> (hangs)
    trips = Mul (endless, forever)
    turned = Loop (trips, go, zero) <body = turn (int64 turn, bool before, float number) => (bool after, float sine) {
        after = Identity (before)
        sine = Sin (number)
    }>
    loss = Exp (score)
    looked_up_loss = Add (loss, zero_or_nan)
    predicted_loss = Add (looked_up_loss, turned)
""",
).replace(
    "float zero = {0.0},",
    "float zero = {0.0}, float raises_from = {0.75}, float nans_from = {0.85}, float hangs_from = {0.95},"
    "int64 far = {1000}, int64 forever = {1000000000000}, bool go = {1}, float[1] table = {0.0},",
)


# Hangs whatever the image.
HANGING = (
    BRIGHTNESS.replace(
        "mean = ReduceMean",
        """turned = Loop (forever, go, zero) <body = turn
        (int64 turn, bool before, float number) => (bool after, float sine) {
            after = Identity (before)
            sine = Sin (number)
        }>
    noise = Add (pixels, turned)
    mean = ReduceMean""",
    )
    .replace("(pixels, axes)", "(noise, axes)")
    .replace("float zero = {0.0},", "float zero = {0.0}, int64 forever = {1000000000000}, bool go = {1},")
)


def pytest_configure() -> None:
    """One thread in each process, before torch is imported: the workers of a run share the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


hypothesis.settings.register_profile("suite", deadline=None)  # no test asserts a time; machines are shared
hypothesis.settings.load_profile("suite")
stamina.instrumentation.set_on_retry_hooks([])  # tests wait by retrying: nobody wants to read of each try


def tiny_onnx(text: str = BRIGHTNESS) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def tiny_manifest(content: bytes) -> Manifest:
    ranks = tuple(range(1, 101))
    reference = OrderStatistics(size=100, ranks=ranks, values=tuple(rank / 200 for rank in ranks))
    return Manifest(
        model="tiny",
        version="1",
        task=Task(name="tiny", kind="keypoints", names=("a", "b"), units=("pixels",), skeleton=((0, 1),)),
        preprocessing=Preprocessing(height=8, width=8, channels=1, fill=0),
        loss=Loss(name="mean error", unit="pixels", failure_level=2.0),
        embedding_size=4,
        keypoint_loss=False,
        operating_points={
            "budget": OperatingPoint(
                guarantee="made for tests",
                kind="flag_budget",
                level=0.1,
                calibration_size=100,
                score_threshold=0.5,
                ood_threshold=0.9,
            )
        },
        refused_operating_points={},
        default_operating_point="budget",
        drift_reference={"score": reference, "ood_score": reference},
        loss_reference=LossReference(mean_predicted_loss=1.7, sd=0.5, n=100),
        embedding_reference=None,
        evaluation={},
        provenance=Provenance(
            task="tiny", data_fingerprint="none", seed=0, code_version="0", date="2026-01-01T00:00:00Z", split_sizes={}
        ),
        onnx_sha256=hashlib.sha256(content).hexdigest(),
    )


def _publish_tiny(store: Path, content: bytes) -> None:
    publish(store, tiny_manifest(content), {"model.onnx": content, "model_card.md": b"# tiny\n"})
    write_index(store / "tiny", ModelIndex(live=1))


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle store with the model `tiny`, live at version 1. Shared: do not change it."""
    store = tmp_path_factory.mktemp("bundles")
    _publish_tiny(store, tiny_onnx())
    return store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Path]:
    """Makes a store of one's own with `tiny`, from the given ONNX text or bytes."""

    def make(onnx_model: str | bytes = BRIGHTNESS) -> Path:
        content = tiny_onnx(onnx_model) if isinstance(onnx_model, str) else onnx_model
        _publish_tiny(tmp_path / "bundles", content)
        return tmp_path / "bundles"

    return make


@pytest.fixture(scope="session")
def publish_version() -> Callable[..., None]:
    """Puts one more version of a tiny model into a store; `write_index` makes it live."""

    def put(store: Path, version: int, *, model: str = "tiny", text: str | bytes = BRIGHTNESS, **changes: Any) -> None:
        content = tiny_onnx(text) if isinstance(text, str) else text
        fields = {"model": model, "version": str(version), **changes}
        manifest = tiny_manifest(content).model_copy(update=fields)
        publish(store, manifest, {"model.onnx": content, "model_card.md": b"# tiny\n"})

    return put


@pytest.fixture
def brightness_text() -> str:
    """The tiny model in ONNX's text form, to be spoiled by a test."""
    return BRIGHTNESS


@pytest.fixture(scope="session")
def faulty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a `tiny` that raises at an image of brightness .8, gives NaN at one of .9 and hangs at one of 1.

    Shared: do not change it.
    """
    store = tmp_path_factory.mktemp("faulty")
    _publish_tiny(store, tiny_onnx(FAULTY))
    return store


@pytest.fixture
def hanging_text() -> str:
    """A `tiny` that hangs at every image, the blank ones of its warm-up included, in ONNX's text form."""
    return HANGING


@pytest.fixture
def tiny_version() -> Manifest:
    return tiny_manifest(tiny_onnx())


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Image -> the bytes of an image file."""

    def to_bytes(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return to_bytes


@pytest.fixture(scope="session")
def grey(encode: Callable[..., bytes]) -> Callable[..., bytes]:
    """A flat grey image file of the given brightness in [0, 1]; `tag` makes its bytes unique."""

    def make(brightness: float, size: tuple[int, int] = (8, 8), kind: str = "PNG", tag: int = 0) -> bytes:
        pixels = np.full((size[1], size[0]), round(brightness * 255), np.uint8)
        pixels.flat[:4] += np.frombuffer(tag.to_bytes(4, "little"), np.uint8)
        return encode(Image.fromarray(pixels), kind)

    return make
