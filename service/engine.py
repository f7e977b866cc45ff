"""ONNX Runtime behind one call: canvases in, forecasts out.

The only user of ONNX Runtime in the service. A session is checked against what was asked (the
provider, the manifest) and warmed up before the service is ready; each failure stops the start.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.bundle import BundleError
from models.contract.manifest import Manifest
from models.contract.runtime import RuntimeMissing, open_session
from service.outcome import Forecast

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}


class EngineError(RuntimeError):
    """The engine cannot be started on this machine; the message says what to do."""


class Engine:
    """One session. Calls from several threads at once are safe and scale with the cores."""

    def __init__(self, onnx: bytes, manifest: Manifest, provider: str = "cpu") -> None:
        """Raises RuntimeMissing; EngineError for a provider that is not there; BundleError for another ONNX."""
        wanted = PROVIDERS[provider]
        try:
            with warnings.catch_warnings():  # a provider that is not there is told below, in one line
                warnings.simplefilter("ignore", UserWarning)
                self._session = open_session(onnx, wanted)
        except RuntimeMissing:
            raise
        except Exception as error:  # the runtime raises a class of its own per fault
            raise BundleError(f"model.onnx cannot be loaded: {error}") from error
        if wanted not in self._session.get_providers():
            raise EngineError(
                f"{wanted} was asked for, ONNX Runtime fell back to {', '.join(self._session.get_providers())}: "
                "install 'losscast[gpu]' and the NVIDIA driver, or set LOSSCAST_PROVIDER=cpu"
            )
        self._manifest = manifest
        self._outputs = list(manifest.output_shapes)
        self._check_signature()

    def __call__(self, canvases: Sequence[NDArray[np.uint8]]) -> list[Forecast]:
        """canvases: n of uint8 [height, width, channels] -> n forecasts, in order."""
        outputs = self._run(np.stack(canvases))
        keypoint_loss = outputs.get("keypoint_loss")
        return [
            Forecast(
                prediction=outputs["prediction"][row],
                score=float(outputs["score"][row]),
                predicted_loss=float(outputs["predicted_loss"][row]),
                ood_score=float(outputs["ood_score"][row]),
                embedding=outputs["embedding"][row],
                keypoint_loss=None if keypoint_loss is None else keypoint_loss[row],
            )
            for row in range(len(canvases))
        ]

    def warm_up(self, max_batch: int) -> None:
        """Runs every batch size once. Raises BundleError when the outputs are not as the manifest says."""
        for size in range(1, max_batch + 1):
            try:
                outputs = self._run(np.zeros((size, *self._manifest.preprocessing.canvas_shape), np.uint8))
            except Exception as error:  # the runtime raises a class of its own per fault
                raise BundleError(f"model.onnx fails on a batch of {size}: {error}; export the bundle again") from error
            for name, shape in self._manifest.output_shapes.items():
                if outputs[name].shape != (size, *shape):
                    raise BundleError(
                        f"model.onnx does not match its manifest: {name} has shape {outputs[name].shape} "
                        f"for a batch of {size}, {(size, *shape)} was promised; export the bundle again"
                    )

    def _run(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(self._outputs, self._session.run(self._outputs, {"image": batch}), strict=True))

    def _check_signature(self) -> None:
        inputs = {i.name: (i.type, tuple(i.shape[1:])) for i in self._session.get_inputs()}
        outputs = {o.name: o.type for o in self._session.get_outputs()}
        if [type(i.shape[0]) for i in self._session.get_inputs()] == [int]:
            raise BundleError("model.onnx does not match its manifest: its batch size is fixed; export it again")
        if inputs != {"image": ("tensor(uint8)", self._manifest.preprocessing.canvas_shape)}:
            raise BundleError(f"model.onnx does not match its manifest: its inputs are {inputs}; export it again")
        if outputs != dict.fromkeys(self._outputs, "tensor(float)"):
            raise BundleError(f"model.onnx does not match its manifest: its outputs are {outputs}; export it again")
