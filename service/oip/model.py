"""A model as the Open Inference Protocol sees it: its metadata, its configuration and its outputs.

The tensors are those that config.pbtxt gives to Triton, so that a client meets the same shapes there and here; the
verdict is one more output, `lossy`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.contract.bundle import MAX_BATCH_SIZE
from models.contract.manifest import Manifest
from service.errors import BadRequest, ModelFault
from service.oip.reply import Array
from service.oip.request import INPUT, shown
from service.outcome import Outcome

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
    """What config.pbtxt says, in JSON, with the verdict among the outputs."""
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


def tensors(outcomes: Sequence[Outcome], manifest: Manifest) -> dict[str, Array]:
    """Every output of n images by name: float32 or bool [n, ...], a number for each image as [n, 1].

    Raises ModelFault when the embedding is not finite, which nothing before has looked at.
    """
    rows = [_row(outcome) for outcome in outcomes]
    stacked: dict[str, Array] = {
        name: np.array([row[name] for row in rows], np.float32).reshape(len(rows), *(shape or (1,)))
        for name, shape in manifest.output_shapes.items()
    }
    if not np.isfinite(stacked["embedding"]).all():
        raise ModelFault("the model gave an embedding that is not finite: report the image to the model's owner")
    stacked[VERDICT] = np.array([[outcome.verdict.lossy] for outcome in outcomes], np.bool_)
    return stacked


def _row(outcome: Outcome) -> dict[str, Any]:
    forecast = outcome.forecast
    return {
        "prediction": outcome.prediction,
        "score": forecast.score,
        "predicted_loss": forecast.predicted_loss,
        "ood_score": forecast.ood_score,
        "embedding": forecast.embedding,
        "keypoint_loss": forecast.keypoint_loss,
    }


def _output(name: str, data_type: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """A number for each image has no shape in the ONNX and must have one in Triton."""
    if shape:
        return {"name": name, "data_type": data_type, "dims": list(shape)}
    return {"name": name, "data_type": data_type, "dims": [1], "reshape": {"shape": []}}
