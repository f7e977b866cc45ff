"""ONNX Runtime behind one call: canvases in, forecasts out.

Nothing else in the service uses ONNX Runtime. There is one session on the CPU, or one on each GPU. Sessions are checked
against the settings' provider and the manifest, and warmed up, before a version is ready.
"""

import itertools
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.bundle import BundleError
from models.contract.manifest import Manifest
from models.contract.runtime import RuntimeMissing, load_runtime, open_session, visible_gpus
from service.errors import ModelFault, StartError
from service.inference.outcome import Forecast
from service.settings import available_cpus

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}
BOUND_TO = "cuda"  # outputs stay on the GPU until all are ready
LARGEST_BATCH = {"cpu": 32, "gpu": 128}  # that is tried
CHECKED = ("prediction", "score", "predicted_loss", "ood_score", "keypoint_loss")  # these must be finite


class EngineError(StartError):
    """The engine cannot be started on this machine; the message says what to do."""


def runtime_version() -> str:
    """The version of ONNX Runtime. Raises EngineError unless exactly one build of it is installed."""
    try:
        return str(load_runtime().__version__)
    except RuntimeMissing as error:
        raise EngineError(str(error)) from error


class Engine:
    """A session for each device. Several threads may call it at once, and throughput grows with the cores."""

    def __init__(self, onnx: bytes, manifest: Manifest, provider: str = "cpu", hang_s: float = 30.0) -> None:
        """hang_s: for one batch at warm-up.

        Raises EngineError without ONNX Runtime or the provider, BundleError for an ONNX file that does not fit.
        """
        self._provider = provider
        self._manifest = manifest
        self._hang_s = hang_s
        self._outputs = list(manifest.output_shapes)
        devices = max(visible_gpus(), 1) if provider == "gpu" else 1
        self._sessions = [_open(onnx, PROVIDERS[provider], device) for device in range(devices)]
        self._check_signature(self._sessions[0])
        self._of_thread = threading.local()
        self._next = itertools.cycle(range(devices))

    def __call__(self, canvases: Sequence[NDArray[np.uint8]]) -> list[Forecast | ModelFault]:
        """canvases: n of uint8 [height, width, channels] -> n forecasts, in order; a fault where one is not finite."""
        n = len(canvases)
        size = self.padded(n)
        batch = np.stack(canvases if size == n else [*canvases, *[canvases[-1]] * (size - n)])
        outputs = self._run(self._device(), batch)
        finite = _finite_rows(outputs, size).tolist()
        forecasts = _forecasts(outputs, n)
        return [forecast if fine else _not_finite() for forecast, fine in zip(forecasts, finite, strict=False)]

    def padded(self, size: int) -> int:
        """The size at which such a batch runs. On a GPU each new size costs time to plan, so it is a power of two."""
        return size if self._provider == "cpu" else 1 << (size - 1).bit_length()

    def batch_sizes(self, largest: int | None = None) -> list[int]:
        """1, 2, 4, ... and the largest batch itself. largest: LARGEST_BATCH when left out."""
        largest = largest or LARGEST_BATCH[self._provider]
        return sorted({*(1 << power for power in range(largest.bit_length())), largest})

    def worker_counts(self) -> list[int]:
        """Numbers of threads to try: up to one a processor, or one and two a GPU: the second one feeds it."""
        if self._provider == "gpu":
            return [len(self._sessions), 2 * len(self._sessions)]
        return self.batch_sizes(available_cpus())

    def warm_up(self, size: int) -> None:
        """Runs a batch of this size on each device.

        Raises BundleError when it fails or hangs, or when the outputs differ from the manifest.
        """
        size = self.padded(size)
        for device in range(len(self._sessions)):
            outputs = self._run_at_most(self._hang_s, device, self._blank(size))
            for name, shape in self._manifest.output_shapes.items():
                if outputs[name].shape != (size, *shape):
                    raise BundleError(
                        f"model.onnx does not match its manifest: {name} has shape {outputs[name].shape} "
                        f"for a batch of {size}, {(size, *shape)} was promised; export the bundle again"
                    )

    def rehearse(self, size: int) -> None:
        """Runs a batch of blank canvases, as for callers."""
        self(list(self._blank(size)))

    def close(self) -> None:
        """Frees the sessions' memory now, without the garbage collector. This is the last call."""
        self._sessions.clear()

    def _blank(self, size: int) -> NDArray[np.uint8]:
        return np.zeros((size, *self._manifest.preprocessing.canvas_shape), np.uint8)

    def _device(self) -> int:
        """The device of the calling thread. Threads are spread over the devices, and each keeps its own."""
        device: int | None = getattr(self._of_thread, "device", None)
        if device is None:
            device = self._of_thread.device = next(self._next)
        return device

    def _run(self, device: int, batch: NDArray[np.uint8], options: Any = None) -> dict[str, NDArray[np.float32]]:
        session = self._sessions[device]
        if self._provider == "cpu":
            outputs = session.run(self._outputs, {"image": batch}, options)
        else:
            binding = session.io_binding()
            binding.bind_cpu_input("image", batch)
            for name in self._outputs:
                binding.bind_output(name, BOUND_TO, device)
            session.run_with_iobinding(binding, options)
            outputs = binding.copy_outputs_to_cpu()
        return dict(zip(self._outputs, outputs, strict=True))

    def _run_at_most(self, limit_s: float, device: int, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        options = load_runtime().RunOptions()
        timer = threading.Timer(limit_s, setattr, (options, "terminate", True))
        timer.start()
        try:
            return self._run(device, batch, options)
        except Exception as error:  # the runtime has an error class for each kind of fault
            reason = f"does not finish in {limit_s:g} s" if options.terminate else f"fails: {error}"
            raise BundleError(
                f"model.onnx, given a batch of {len(batch)}, {reason}; export the bundle again"
            ) from error
        finally:
            timer.cancel()

    def _check_signature(self, session: Any) -> None:
        inputs = {i.name: (i.type, tuple(i.shape[1:])) for i in session.get_inputs()}
        outputs = {o.name: o.type for o in session.get_outputs()}
        if [type(i.shape[0]) for i in session.get_inputs()] == [int]:
            raise BundleError("model.onnx does not match its manifest: its batch size is fixed; export it again")
        if inputs != {"image": ("tensor(uint8)", self._manifest.preprocessing.canvas_shape)}:
            raise BundleError(f"model.onnx does not match its manifest: its inputs are {inputs}; export it again")
        if outputs != dict.fromkeys(self._outputs, "tensor(float)"):
            raise BundleError(f"model.onnx does not match its manifest: its outputs are {outputs}; export it again")


def _open(onnx: bytes, wanted: str, device: int) -> Any:
    try:
        with warnings.catch_warnings():  # the missing provider is reported below
            warnings.simplefilter("ignore", UserWarning)
            session = open_session(onnx, wanted, device)
    except RuntimeMissing as error:
        raise EngineError(str(error)) from error
    except Exception as error:  # the runtime has an error class for each kind of fault
        raise BundleError(f"model.onnx cannot be loaded: {error}") from error
    if wanted not in session.get_providers():
        raise EngineError(
            f"{wanted} was asked for, ONNX Runtime fell back to {', '.join(session.get_providers())}: "
            "install 'losscast[gpu]' and the NVIDIA driver, or set LOSSCAST_PROVIDER=cpu"
        )
    return session


def _forecasts(outputs: dict[str, NDArray[np.float32]], n: int) -> list[Forecast]:
    scores = (outputs[name].tolist() for name in ("score", "predicted_loss", "ood_score"))
    keypoint_loss = outputs.get("keypoint_loss", [None] * n)
    rows = zip(outputs["prediction"][:n], *scores, outputs["embedding"], keypoint_loss, strict=False)
    return [Forecast(*row) for row in rows]


def _finite_rows(outputs: dict[str, NDArray[np.float32]], n: int) -> NDArray[np.bool_]:
    """Whether all numbers that callers get are finite, for each row: bool [n]."""
    checked = np.concatenate([outputs[name].reshape(n, -1) for name in CHECKED if name in outputs], axis=1)
    finite: NDArray[np.bool_] = np.isfinite(checked).all(axis=1)
    return finite


def _not_finite() -> ModelFault:
    return ModelFault(
        "the model gave a number that is not finite for this image: report the image to the model's owner"
    )
