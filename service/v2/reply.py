"""The reply to an inference request: outcomes -> tensors -> JSON, and behind it the tensors that are sent in binary."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.contract.manifest import Manifest
from service.errors import BadRequest, ModelFault
from service.inference.outcome import Outcome
from service.v2.request import shown

VERDICT = "lossy"  # the output that is the verdict
DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.bool_): "BOOL"}

Array = NDArray[np.float32] | NDArray[np.bool_]


def outputs_of(manifest: Manifest, asked: Mapping[str, bool] | None, *, binary: bool) -> dict[str, bool]:
    """The outputs to send, and whether in binary. asked: None for all. Raises BadRequest for an unknown output."""
    known = (*manifest.output_shapes, VERDICT)
    if asked is None:
        return dict.fromkeys(known, binary)
    for name in asked:
        if name not in known:
            raise BadRequest(f"there is no output {shown(name)}: the model has {', '.join(known)}")
    return dict(asked)


def tensors(outcomes: Sequence[Outcome], manifest: Manifest, names: Collection[str]) -> dict[str, Array]:
    """The named outputs of n images: float32 or bool [n, ...], a number for each image as [n, 1].

    Raises ModelFault, which names the image, for a number that is not finite: embeddings were not checked before.
    """
    return {name: _verdicts(outcomes) if name == VERDICT else _numbers(outcomes, manifest, name) for name in names}


def write(
    head: Mapping[str, Any], tensors: Mapping[str, Array], binary: Mapping[str, bool]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers. head: the fields beside the outputs. tensors: the outputs to send, in order, all finite."""
    outputs, parts = [], []
    for name, tensor in tensors.items():
        output: dict[str, Any] = {"name": name, "datatype": DATATYPES[tensor.dtype], "shape": tensor.shape}
        if binary[name]:
            parts.append(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = tensor.ravel()
        outputs.append(output)
    text = orjson.dumps({**head, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not parts:
        return text, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
    return b"".join((text, *parts)), headers


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
