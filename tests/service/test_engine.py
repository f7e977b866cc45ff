from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.contract.bundle import BundleError
from service.bundle_store import BundleStore
from service.engine import Engine, EngineError


def load(store: Path, provider: str = "cpu") -> Engine:
    bundle = BundleStore(store).load("tiny")
    return Engine(bundle.onnx, bundle.manifest, provider)


def canvas(brightness: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((8, 8, 1), brightness, np.uint8)


def test_each_row_of_a_batch_gets_its_own_forecast(tiny_store: Path) -> None:
    forecasts = load(tiny_store)([canvas(0), canvas(51), canvas(255)])
    assert [f.score for f in forecasts] == pytest.approx([0, 0.2, 1])
    assert [f.predicted_loss for f in forecasts] == pytest.approx(np.exp([0, 0.2, 1]))
    assert forecasts[1].prediction.tolist() == [[2, 2], [6, 6]]
    assert forecasts[0].keypoint_loss is None


def test_calls_from_several_threads_do_not_mix(tiny_store: Path) -> None:
    engine = load(tiny_store)
    with ThreadPoolExecutor(4) as threads:
        scores = threads.map(lambda level: engine([canvas(level)])[0].score, range(200))
        assert list(scores) == pytest.approx([level / 255 for level in range(200)])


def test_warm_up_accepts_every_batch_size(tiny_store: Path) -> None:
    load(tiny_store).warm_up(8)


def test_bytes_that_are_no_onnx_are_refused(make_store: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match="cannot be loaded"):
        load(make_store(b"not a model"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("uint8[batch, 8, 8, 1] image", "uint8[batch, 8, 9, 1] image", "its inputs are"),
        ("float[batch] score,", "", "its outputs are"),
    ],
)
def test_an_onnx_that_does_not_match_its_manifest_is_refused(
    make_store: Callable[..., Path], brightness_text: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(BundleError, match=f"does not match its manifest: {message}"):
        load(make_store(brightness_text.replace(old, new)))


def test_an_onnx_with_a_fixed_batch_is_refused(make_store: Callable[..., Path], brightness_text: str) -> None:
    with pytest.raises(BundleError, match="its batch size is fixed"):
        load(make_store(brightness_text.replace("uint8[batch,", "uint8[1,")))


def test_an_onnx_that_fails_on_a_batch_is_found_at_warm_up(
    make_store: Callable[..., Path], brightness_text: str
) -> None:
    spoiled = brightness_text.replace("int64[2] as_embedding = {-1, 1}", "int64[2] as_embedding = {1, 1}")
    with pytest.raises(BundleError, match="fails on a batch of 2"):
        load(make_store(spoiled)).warm_up(2)


def test_an_output_of_another_size_is_found_at_warm_up(make_store: Callable[..., Path], brightness_text: str) -> None:
    spoiled = brightness_text.replace("float[batch, 4] embedding", "float[batch, width] embedding").replace(
        "float[1, 4] directions = {1.0, 2.0, 3.0, 4.0}", "float[1, 3] directions = {1.0, 2.0, 3.0}"
    )
    engine = load(make_store(spoiled))
    with pytest.raises(BundleError, match=r"embedding has shape \(1, 3\)"):
        engine.warm_up(2)


def test_a_gpu_that_is_not_there_is_refused_and_not_replaced_by_the_cpu(tiny_store: Path) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU: the refusal cannot be seen here")
    with pytest.raises(EngineError, match="LOSSCAST_PROVIDER=cpu"):
        load(tiny_store, "gpu")
