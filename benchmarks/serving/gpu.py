"""The engine on a GPU: images per second of the keypoint model by batch size, in float32 and float16.

It measures the service's own engine. First on decoded canvases, with one thread that calls it and with two, so that one
prepares a batch while that of the other is computed. Then with two threads that first decode JPEG files, on all
processors. Then the whole service over HTTP. It needs `losscast[gpu]`, and says so where that is missing.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.serving.keypoints import SPEC
from benchmarks.serving.load import read_images
from benchmarks.serving.material import HEIGHT, WIDTH, Material
from models.contract.bundle import read_manifest, read_onnx
from models.contract.runtime import load_runtime, visible_gpus
from service.inference.decode import decode
from service.inference.engine import Engine
from service.settings import available_cpus

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COLUMNS = {
    "one_thread_per_s": "images/s, one thread",
    "two_threads_per_s": "two threads",
    "with_decoding_per_s": "two threads, with decoding",
}


class NoGpu(RuntimeError):  # noqa: N818 - the condition is the name
    """There is no GPU that can be used."""


def check_gpu() -> None:
    """Raises NoGpu where the driver shows none. Opening an engine shows whether ONNX Runtime can use it."""
    if not visible_gpus():
        raise NoGpu("there is no GPU here: this needs an NVIDIA GPU, its driver and losscast[gpu]")


def on_gpu(
    material: Material, seconds: float, provider: str = "gpu", batches: Sequence[int] = BATCHES
) -> list[dict[str, Any]]:
    """One row for each precision and batch size, in images per second. Raises EngineError where there is no GPU."""
    manifest = read_manifest(material.bundle)
    model = read_onnx(material.bundle, manifest)
    bodies = read_images(material.images)
    rows = []
    with ThreadPoolExecutor(available_cpus()) as decoders:
        for precision, content in {"fp32": model, "fp16": _halved(model)}.items():
            engine = Engine(content, manifest, provider)
            for batch in batches:
                chosen = list(itertools.islice(itertools.cycle(bodies), batch))
                canvases = _decoded(decoders, chosen)

                def alone(engine: Engine = engine, ready: Sequence[NDArray[np.uint8]] = canvases) -> None:
                    engine(ready)

                def whole(engine: Engine = engine, chosen: Sequence[bytes] = chosen) -> None:
                    engine(_decoded(decoders, chosen))

                measured = (_rate(alone, 1, seconds), _rate(alone, 2, seconds), _rate(whole, 2, seconds))
                rates = {name: rate * batch for name, rate in zip(COLUMNS, measured, strict=True)}
                rows.append({"precision": precision, "batch": batch, **rates})
            engine.close()
    return rows


def table(rows: Sequence[dict[str, Any]], served: dict[str, Any]) -> str:
    """Markdown. served: one load of the whole service."""
    head = [f"| Precision | batch | {' | '.join(COLUMNS.values())} |", f"|---|---:|{'---:|' * len(COLUMNS)}"]
    cells = [[row["precision"], str(row["batch"]), *(f"{row[name]:,.0f}" for name in COLUMNS)] for row in rows]
    whole = (
        f"The whole service in float32 over HTTP, {served['clients']} clients, detection on: {served['per_s']:,.0f} "
        f"requests/s, p50 {served['p50_ms']:.1f} ms, p99 {served['p99_ms']:.1f} ms, {served['cpu_ms']:.2f} ms of "
        "processor time each."
    )
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in cells), "", whole]) + "\n"


def _decoded(decoders: ThreadPoolExecutor, bodies: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    return [one.canvas for one in decoders.map(lambda body: decode(body, SPEC, HEIGHT * WIDTH), bodies)]


def _halved(model: bytes) -> bytes:
    """The model in float16, to measure its speed. Random weights do not show how much precision is lost."""
    load_runtime()
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 - telemetry is off only now

    halved = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    content: bytes = halved.SerializeToString()
    return content


def _rate(work: Callable[[], None], threads: int, seconds: float) -> float:
    """Calls per second with that many threads."""

    def repeat(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            work()
            done += 1
        return done

    work()  # allocates, and lets cuDNN choose
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        done = sum(pool.map(repeat, [started + seconds] * threads))
        return done / (time.perf_counter() - started)
