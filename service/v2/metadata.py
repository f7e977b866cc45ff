"""A model as the Open Inference Protocol describes it: its metadata and its configuration.

The tensors are those of the config.pbtxt that Triton reads, so that a client meets the same shapes there and here. The
verdict is one more output, `lossy`.
"""

from collections.abc import Sequence
from typing import Any

from models.contract.index import MAX_BATCH_SIZE
from models.contract.manifest import Manifest
from service.v2.reply import VERDICT
from service.v2.request import INPUT


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
    """The content of config.pbtxt as JSON, with the verdict as one more output, and the versions that are served."""
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


def _output(name: str, data_type: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """One output of the configuration. A single number has no shape in the ONNX file; Triton requires one."""
    if shape:
        return {"name": name, "data_type": data_type, "dims": list(shape)}
    return {"name": name, "data_type": data_type, "dims": [1], "reshape": {"shape": []}}
