import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.bundle import BundleError
from models.contract.runtime import open_session
from service.errors import ModelFault
from service.inference import engine as engine_module
from service.inference.engine import Engine, EngineError
from service.inference.outcome import Forecast
from service.versions.bundle_store import BundleStore

Canvas = NDArray[np.uint8]


def load(store: Path, provider: str = "cpu", hang_s: float = 30.0) -> Engine:
    bundle = BundleStore(store).load("tiny", "1")
    return Engine(bundle.onnx, bundle.manifest, provider, hang_s)


def canvas(brightness: int) -> Canvas:
    return np.full((8, 8, 1), brightness, np.uint8)


def forecasts_of(engine: Engine, canvases: Sequence[Canvas]) -> list[Forecast]:
    answers = engine(canvases)
    assert not [answer for answer in answers if isinstance(answer, ModelFault)]
    return [answer for answer in answers if isinstance(answer, Forecast)]


def test_each_row_of_a_batch_gets_its_own_forecast(tiny_store: Path) -> None:
    forecasts = forecasts_of(load(tiny_store), [canvas(0), canvas(51), canvas(255)])
    assert [f.score for f in forecasts] == pytest.approx([0, 0.2, 1])
    assert [f.predicted_loss for f in forecasts] == pytest.approx(np.exp([0, 0.2, 1]))
    assert forecasts[1].prediction.tolist() == [[2, 2], [6, 6]]
    assert forecasts[0].keypoint_loss is None


def test_calls_from_several_threads_do_not_mix(tiny_store: Path) -> None:
    engine = load(tiny_store)
    with ThreadPoolExecutor(4) as threads:
        scores = threads.map(lambda level: forecasts_of(engine, [canvas(level)])[0].score, range(200))
        assert list(scores) == pytest.approx([level / 255 for level in range(200)])


def test_a_row_that_is_no_number_is_a_fault_of_its_own(faulty_store: Path) -> None:
    dark, spoilt, grey = load(faulty_store)([canvas(0), canvas(230), canvas(51)])
    assert isinstance(spoilt, ModelFault)
    assert isinstance(dark, Forecast)
    assert isinstance(grey, Forecast)
    assert (dark.score, grey.score) == pytest.approx((0, 0.2))


def test_a_batch_that_is_padded_as_for_a_gpu_gives_the_rows_that_were_asked_for(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(tiny_store)
    monkeypatch.setattr(engine, "padded", lambda _: 8)  # what only a GPU needs
    assert [f.score for f in forecasts_of(engine, [canvas(51), canvas(255)])] == pytest.approx([0.2, 1])


def test_a_model_that_hangs_is_found_at_warm_up(make_store: Callable[..., Path], hanging_text: str) -> None:
    with pytest.raises(BundleError, match=r"a batch of 2, does not finish in 0.2 s"):
        load(make_store(hanging_text), hang_s=0.2).warm_up(2)


def test_batch_sizes_double_up_to_the_largest(tiny_store: Path) -> None:
    engine = load(tiny_store)
    assert engine.batch_sizes() == [1, 2, 4, 8, 16, 32]
    assert engine.batch_sizes(6) == [1, 2, 4, 6]
    assert engine.batch_sizes(1) == [1]
    assert engine.padded(5) == 5


def test_worker_counts_go_up_to_the_processors(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "available_cpus", lambda: 6)
    assert load(tiny_store).worker_counts() == [1, 2, 4, 6]


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
    with pytest.raises(BundleError, match="a batch of 2, fails"):
        load(make_store(spoiled)).warm_up(2)


def test_an_output_of_another_size_is_found_at_warm_up(make_store: Callable[..., Path], brightness_text: str) -> None:
    spoiled = brightness_text.replace("float[batch, 4] embedding", "float[batch, width] embedding").replace(
        "float[1, 4] directions = {1.0, 2.0, 3.0, 4.0}", "float[1, 3] directions = {1.0, 2.0, 3.0}"
    )
    engine = load(make_store(spoiled))
    with pytest.raises(BundleError, match=r"embedding has shape \(2, 3\)"):
        engine.warm_up(2)


def test_a_gpu_that_is_not_there_is_refused_and_not_replaced_by_the_cpu(tiny_store: Path) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU: the refusal cannot be seen here")
    with pytest.raises(EngineError, match="LOSSCAST_PROVIDER=cpu"):
        load(tiny_store, "gpu")


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets the engine take the CPU for two GPUs; the devices for which it opened a session."""
    opened = []

    def open_on_cpu(onnx: bytes, provider: str, device: int) -> object:
        assert provider == "CUDAExecutionProvider"
        opened.append(device)
        return open_session(onnx)

    monkeypatch.setattr(engine_module, "visible_gpus", lambda: 2)
    monkeypatch.setattr(engine_module, "_open", open_on_cpu)
    monkeypatch.setattr(engine_module, "BOUND_TO", "cpu")
    return opened


def test_each_gpu_has_a_session_and_threads_are_dealt_out_to_them(tiny_store: Path, two_devices: list[int]) -> None:
    engine = load(tiny_store, "gpu")
    assert two_devices == [0, 1]
    assert engine.worker_counts() == [2, 4]
    barrier = threading.Barrier(4)

    def device(_: int) -> int:
        barrier.wait(10)
        assert forecasts_of(engine, [canvas(51)] * 3)[2].score == pytest.approx(0.2)
        return engine._device()

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(device, range(4))) == [0, 0, 1, 1]


def test_a_gpu_gets_batches_of_powers_of_two(tiny_store: Path, two_devices: list[int]) -> None:
    engine = load(tiny_store, "gpu")
    assert two_devices
    assert [engine.padded(size) for size in (1, 2, 3, 4, 5, 9)] == [1, 2, 4, 4, 8, 16]
    assert engine.batch_sizes()[-1] == 128
    engine.warm_up(5)
    assert [f.score for f in forecasts_of(engine, [canvas(level) for level in (0, 51, 255)])] == pytest.approx(
        [0, 0.2, 1]
    )
