"""The engine on a GPU: images per second of the keypoint model by batch size, in float32 and float16.

Alone on canvases that are ready, and with the decoding of JPEG files on all processors before each batch. Needs
`losscast[gpu]`; elsewhere it says so.
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
from models.contract.runtime import load_runtime, open_session
from service.decode import decode
from service.settings import available_cpus

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GPU = "CUDAExecutionProvider"
NONE = "there is no GPU here that ONNX Runtime can use: this needs an NVIDIA GPU and losscast[gpu]"


class NoGpu(RuntimeError):  # noqa: N818 - the condition is the name
    """There is none, or ONNX Runtime cannot use it."""


def check_gpu() -> None:
    """Raises NoGpu where ONNX Runtime was built without one. That it can be used shows once a session is open."""
    if GPU not in load_runtime().get_available_providers():
        raise NoGpu(NONE)


def on_gpu(
    material: Material, seconds: float, provider: str = GPU, batches: Sequence[int] = BATCHES
) -> list[dict[str, Any]]:
    """One row for each precision and batch size, in images per second. Raises NoGpu."""
    model = (material.bundle / "model.onnx").read_bytes()
    bodies = read_images(material.images)
    rows = []
    with ThreadPoolExecutor(available_cpus()) as pool:
        for (name, content), batch in itertools.product({"fp32": model, "fp16": _halved(model)}.items(), batches):
            session = open_session(content, provider)
            if provider not in session.get_providers():
                raise NoGpu(NONE)
            outputs = [one.name for one in session.get_outputs()]
            chosen = list(itertools.islice(itertools.cycle(bodies), batch))
            canvases = _decoded(pool, chosen)

            def alone(session: Any = session, outputs: list[str] = outputs, ready: Any = canvases) -> None:
                session.run(outputs, {"image": ready})

            def whole(session: Any = session, outputs: list[str] = outputs, chosen: list[bytes] = chosen) -> None:
                session.run(outputs, {"image": _decoded(pool, chosen)})

            rates = {"infer_per_s": _rate(alone, batch, seconds), "with_decoding_per_s": _rate(whole, batch, seconds)}
            rows.append({"precision": name, "batch": batch, **rates})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| Precision | batch | images/s | with decoding |", "|---|---:|---:|---:|"]
    text = "| {precision} | {batch} | {infer_per_s:,.0f} | {with_decoding_per_s:,.0f} |"
    return "\n".join([*lines, *(text.format(**row) for row in rows)]) + "\n"


def _decoded(pool: ThreadPoolExecutor, bodies: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.stack([picture.canvas for picture in pool.map(lambda body: decode(body, SPEC, HEIGHT * WIDTH), bodies)])


def _halved(model: bytes) -> bytes:
    """Weights and arithmetic in float16, for its speed; random weights say nothing of what precision it costs."""
    load_runtime()
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 - telemetry is off only now

    halved = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    content: bytes = halved.SerializeToString()
    return content


def _rate(work: Callable[[], None], batch: int, seconds: float) -> float:
    work()  # allocates, and lets cuDNN choose
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        work()
        done += batch
    return done / took
