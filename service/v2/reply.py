"""The reply to an inference request: JSON, then the bytes of those tensors that are asked for in binary."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.bool_): "BOOL"}

Array = NDArray[np.float32] | NDArray[np.bool_]


def write(
    head: Mapping[str, Any], tensors: Mapping[str, Array], binary: Mapping[str, bool]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers. head: the fields beside the outputs. tensors: those asked for, in order, each one finite."""
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
