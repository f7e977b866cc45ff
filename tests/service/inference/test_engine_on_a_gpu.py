"""The shipped models on a real NVIDIA GPU: the same numbers, tuned, from several threads, without growing."""

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.runtime import visible_gpus
from service.inference.engine import Engine
from service.inference.outcome import Forecast
from service.inference.tuning import tune
from service.versions.bundle_store import BundleStore

pytestmark = pytest.mark.skipif(not visible_gpus(), reason="needs an NVIDIA GPU and losscast[gpu]")

STORE = Path(__file__).resolve().parents[3] / "bundles"
GPU_TOLERANCE = 2e-3  # of the largest value of an output: sums in another order, without TF32
SPARE_MB = 64  # by which the GPU's memory may differ between two looks
Open = Callable[[str, str], Engine]


@pytest.fixture(scope="module")
def engines() -> Open:
    opened: dict[tuple[str, str], Engine] = {}

    def open_one(model: str, provider: str) -> Engine:
        if (model, provider) not in opened:
            bundle = BundleStore(STORE).load(model, "1")
            opened[model, provider] = Engine(bundle.onnx, bundle.manifest, provider)
        return opened[model, provider]

    return open_one


def noise(engine: Engine, n: int) -> list[NDArray[np.uint8]]:
    shape = engine._manifest.preprocessing.canvas_shape
    smooth = np.random.default_rng(0).integers(0, 256, (n, 8, 8, shape[2]), np.uint8)
    return list(smooth.repeat(shape[0] // 8, axis=1).repeat(shape[1] // 8, axis=2))


def answers(engine: Engine, canvases: list[NDArray[np.uint8]]) -> list[Forecast]:
    found = [answer for answer in engine(canvases) if isinstance(answer, Forecast)]
    assert len(found) == len(canvases)
    return found


@pytest.mark.parametrize("model", ["digits", "pose"])
@pytest.mark.parametrize("n", [1, 3, 32])
def test_it_gives_the_numbers_of_the_cpu(engines: Open, model: str, n: int) -> None:
    canvases = noise(engines(model, "cpu"), n)
    ours, theirs = (answers(engines(model, provider), canvases) for provider in ("gpu", "cpu"))
    for name in ("prediction", "score", "predicted_loss", "ood_score", "embedding"):
        a, b = (np.array([getattr(one, name) for one in side]) for side in (ours, theirs))
        assert np.abs(a - b).max() <= GPU_TOLERANCE * max(1, np.abs(b).max()), name


def test_its_session_is_told_what_suits_a_service(engines: Open) -> None:
    options = engines("digits", "gpu")._sessions[0].get_provider_options()["CUDAExecutionProvider"]
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert options["use_tf32"] == "0"


def test_tuning_warms_up_powers_of_two_and_takes_a_batch(engines: Open) -> None:
    tuning = tune(engines("pose", "gpu"))
    assert tuning.max_batch > 1
    assert all(size & (size - 1) == 0 for size in tuning.batch_sizes)


def test_calls_of_any_size_from_several_threads_do_not_mix_and_memory_stays(engines: Open) -> None:
    engine = engines("digits", "gpu")
    canvases = noise(engine, 64)
    alone = [answers(engine, [one])[0].score for one in canvases]
    rng = np.random.default_rng(1)
    rounds = [rng.integers(0, 64, rng.integers(1, 65)).tolist() for _ in range(300)]

    def ask(rows: list[int]) -> bool:
        scores = [one.score for one in answers(engine, [canvases[row] for row in rows])]
        return bool(np.allclose(scores, [alone[row] for row in rows], atol=1e-3))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, rounds))
        before = used_mb()
        assert all(threads.map(ask, rounds))
    assert used_mb() <= before + SPARE_MB


def used_mb() -> int:
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={device}"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
