"""The images in a request's input tensor: image files in a BYTES tensor, canvases in a UINT8 tensor.

A binary tensor holds the bytes of a file. JSON cannot hold them, so there a file is base64.
"""

import base64
import binascii
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadRequest
from service.v2.request import INPUT, InputTensor, shown

LENGTH_BYTES = 4  # before each element of a binary BYTES tensor, little-endian


def images(
    tensor: InputTensor, canvas_shape: tuple[int, int, int], max_images: int
) -> list[bytes] | list[NDArray[np.uint8]]:
    """The images in order: bytes of a file, or canvases uint8 [height, width, channels]. Raises BadRequest."""
    kinds = {"BYTES": ((), (1,)), "UINT8": (canvas_shape,)}
    if tensor.datatype not in kinds:
        raise BadRequest(
            f"{INPUT} is of datatype {shown(tensor.datatype)}: send BYTES (image files) or UINT8 (canvases)"
        )
    if not tensor.shape or tensor.shape[1:] not in kinds[tensor.datatype]:
        wanted = " or ".join(f"[{', '.join(map(str, ('n', *rest)))}]" for rest in kinds[tensor.datatype])
        raise BadRequest(f"{INPUT} of datatype {tensor.datatype} must have the shape {wanted}")
    count = tensor.shape[0]
    if not 1 <= count <= max_images:
        raise BadRequest(f"{INPUT} holds {count} images: send 1 to {max_images} in a request")
    return _files(tensor, count) if tensor.datatype == "BYTES" else _canvases(tensor)


def _files(tensor: InputTensor, count: int) -> list[bytes]:
    if tensor.raw is None:
        return [_unpacked(text, row) for row, text in enumerate(_flat(tensor, str))]
    files, at = [], 0
    for row in range(count):
        size = int.from_bytes(tensor.raw[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES + size
        if at > len(tensor.raw):
            raise BadRequest(f"{INPUT}: element {row} is longer than the tensor's binary data")
        files.append(bytes(tensor.raw[at - size : at]))
    if at != len(tensor.raw):
        raise BadRequest(f"{INPUT}: {len(tensor.raw) - at} bytes of binary data follow the last of {count} elements")
    return files


def _unpacked(text: str, row: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{INPUT}: element {row} must be an image file in base64: {error}") from error


def _canvases(tensor: InputTensor) -> list[NDArray[np.uint8]]:
    size = math.prod(tensor.shape)
    if tensor.raw is None:
        try:
            raw: bytes | memoryview = bytes(_flat(tensor, int))
        except ValueError as error:
            raise BadRequest(f"{INPUT} of datatype UINT8 holds a number outside 0 to 255") from error
    else:
        raw = tensor.raw
    if len(raw) != size:
        raise BadRequest(f"{INPUT} of shape {list(tensor.shape)} needs {size} bytes, and {len(raw)} came")
    return list(np.frombuffer(raw, np.uint8).reshape(tensor.shape))


def _flat(tensor: InputTensor, kind: type) -> list[Any]:
    """The elements of JSON data, which may be flat, or nested as the shape says."""
    values: list[Any] = tensor.data or []
    if values and type(values[0]) is list:
        values = [values]
        for size in tensor.shape:
            if any(type(part) is not list or len(part) != size for part in values):
                raise BadRequest(f"{INPUT}: data is not nested as the shape {list(tensor.shape)} says")
            values = list(itertools.chain.from_iterable(values))
    if len(values) != math.prod(tensor.shape):
        raise BadRequest(f"{INPUT}: the shape {list(tensor.shape)} and {len(values)} elements of data do not fit")
    if not set(map(type, values)) <= {kind}:
        raise BadRequest(f"{INPUT}: data must be {'strings' if kind is str else 'whole numbers'}")
    return values
