"""A model as the Open Inference Protocol sees it: its metadata, its configuration and its outputs.

The tensors are those that config.pbtxt gives to Triton, so that a client meets the same shapes there and here; the
verdict is one more output, `lossy`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.index import MAX_BATCH_SIZE
from models.contract.manifest import Manifest
from service.errors import BadRequest, ModelFault
from service.inference.outcome import Outcome
from service.v2.reply import Array
from service.v2.request import INPUT, shown

VERDICT = "lossy"


def metadata(manifest: Manifest, versions: Sequence[str]) -> dict[str, Any]:
    """The reply to a model metadata request."""
    canvas = {"name": INPUT, "datatype": "UINT8", "shape": [-1, *manifest.preprocessing.canvas_shape]}
    outputs = [
        {"name": name, "datatype": "FP32", "shape": [-1, *(shape or (1,))]}
        for name, shape in manifest.output_shapes.items()
    ]
    return {
        "name": manifest.model,
        "versions": list(versions),
        "platform": "onnxruntime_onnx",
        "inputs": [canvas],
        "outputs": [*outputs, {"name": VERDICT, "datatype": "BOOL", "shape": [-1, 1]}],
    }


def configuration(manifest: Manifest, versions: Sequence[str]) -> dict[str, Any]:
    """What config.pbtxt says, in JSON, with the verdict among the outputs and the versions that are served here."""
    return {
        "name": manifest.model,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [int(version) for version in versions]}},
        "max_batch_size": MAX_BATCH_SIZE,
        "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "dims": list(manifest.preprocessing.canvas_shape)}],
        "output": [
            *(_output(name, "TYPE_FP32", shape) for name, shape in manifest.output_shapes.items()),
            _output(VERDICT, "TYPE_BOOL", ()),
        ],
        "dynamic_batching": {},
    }


def outputs_of(manifest: Manifest, asked: Mapping[str, bool] | None, *, binary: bool) -> dict[str, bool]:
    """The outputs to be sent, and whether in binary: those asked for, or all. Raises BadRequest for an unknown one."""
    known = (*manifest.output_shapes, VERDICT)
    if asked is None:
        return dict.fromkeys(known, binary)
    for name in asked:
        if name not in known:
            raise BadRequest(f"there is no output {shown(name)}: the model has {', '.join(known)}")
    return dict(asked)


def tensors(outcomes: Sequence[Outcome], manifest: Manifest, names: Collection[str]) -> dict[str, Array]:
    """The named outputs of n images: float32 or bool [n, ...], a number for each image as [n, 1].

    Raises ModelFault, naming the image, for a number that is not finite: nobody has looked at embeddings before.
    """
    return {name: _verdicts(outcomes) if name == VERDICT else _numbers(outcomes, manifest, name) for name in names}


def _verdicts(outcomes: Sequence[Outcome]) -> NDArray[np.bool_]:
    return np.array([[outcome.verdict.lossy] for outcome in outcomes], np.bool_)


def _numbers(outcomes: Sequence[Outcome], manifest: Manifest, name: str) -> NDArray[np.float32]:
    rows = [outcome.prediction if name == "prediction" else getattr(outcome.forecast, name) for outcome in outcomes]
    tensor = np.array(rows, np.float32).reshape(len(rows), *(manifest.output_shapes[name] or (1,)))
    finite = np.isfinite(tensor.reshape(len(rows), -1)).all(axis=1)
    if not finite.all():
        raise ModelFault(
            f"image {finite.argmin()}: {name} holds a number that is not finite: report the image to the model's owner"
        )
    return tensor


def _output(name: str, data_type: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """A number for each image has no shape in the ONNX and must have one in Triton."""
    if shape:
        return {"name": name, "data_type": data_type, "dims": list(shape)}
    return {"name": name, "data_type": data_type, "dims": [1], "reshape": {"shape": []}}
