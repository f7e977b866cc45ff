"""Opens ONNX Runtime for serving and for evaluation: exactly one build of it, without its own log lines."""

import ctypes
import importlib.metadata
import os
from typing import Any

BUILDS = ("onnxruntime", "onnxruntime-gpu")
CUDA = "CUDAExecutionProvider"


class RuntimeMissing(RuntimeError):  # noqa: N818 - the condition is the name
    """No usable ONNX Runtime is installed; the message says what to install."""


def open_session(onnx: bytes, provider: str = "CPUExecutionProvider", device: int = 0) -> Any:
    """An InferenceSession that runs on the calling thread; several threads may call it at once, and this scales.

    device: which of the visible GPUs. Raises RuntimeMissing, and the errors of ONNX Runtime for bytes that it cannot
    load. ONNX Runtime silently replaces an unavailable provider by the CPU: compare `get_providers()` of the result.
    """
    onnxruntime = load_runtime()
    if provider == CUDA:
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # cuDNN's convolutions ignore `use_tf32`
        onnxruntime.preload_dlls()  # the loader does not find the CUDA libraries of the wheels by itself
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised too; on stderr they would only interrupt the log
    return onnxruntime.InferenceSession(onnx, options, providers=[(provider, provider_options(provider, device))])


def provider_options(provider: str, device: int = 0) -> dict[str, str]:
    """Options of a provider for ONNX Runtime: those of CUDA whose defaults do not suit a service."""
    if provider != CUDA:
        return {}
    return {
        "device_id": str(device),
        "arena_extend_strategy": "kSameAsRequested",  # powers of two take up to twice the memory needed
        "cudnn_conv_algo_search": "HEURISTIC",  # the exhaustive default tries every algorithm for each batch size
        "use_tf32": "0",  # thresholds and calibration were made in full float32
    }


def visible_gpus() -> int:
    """The number of NVIDIA GPUs that this process may use (see CUDA_VISIBLE_DEVICES); 0 without a driver."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):  # anything but 0 is an error
        return 0
    return count.value


def load_runtime() -> Any:
    """The module onnxruntime. Raises RuntimeMissing unless exactly one build is installed."""
    builds = [build for build in BUILDS if _installed(build)]
    if not builds:
        raise RuntimeMissing("ONNX Runtime is missing: pip install 'losscast[cpu]', or 'losscast[gpu]' for NVIDIA GPUs")
    if len(builds) == len(BUILDS):
        raise RuntimeMissing(f"{' and '.join(BUILDS)} overwrite each other: uninstall both, then install one of them")
    # ONNX Runtime reports usage to its maker unless this is set before the import. No user here agreed to that.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 - only now, see above

    return onnxruntime


def _installed(build: str) -> bool:
    try:
        importlib.metadata.version(build)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
