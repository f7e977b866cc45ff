"""An inference request of the Open Inference Protocol v2, from the bytes of its body.

The JSON comes first. The bytes of a binary tensor follow it (binary tensor data extension); the header
Inference-Header-Content-Length says where the JSON ends. Any body gives an InferRequest or a ServiceError of one line.
Types are strict: true is not a number.
"""

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from service.errors import BadRequest, TooLarge, UnsupportedImage

T = TypeVar("T")

INPUT = "image"  # the only input that the models have
EITHER_ENCODING = 32 + zlib.MAX_WBITS  # makes zlib recognise gzip and deflate by their headers
ENCODINGS = ("gzip", "deflate")
MAX_SHOWN = 80  # characters of what the client sent, in a message
WORDS = {str: "a string", int: "a whole number", bool: "true or false", list: "an array", dict: "an object"}

HINT = "content_type"  # accepted without effect: MLServer's clients say with it how they encoded a tensor


@dataclass(frozen=True, slots=True)
class InputTensor:
    """It has either data (JSON) or raw (binary)."""

    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None
    raw: memoryview | None


@dataclass(frozen=True, slots=True)
class InferRequest:
    id: str | None
    input: InputTensor
    outputs: Mapping[str, bool] | None  # the outputs asked for, and whether each is sent in binary; None: all
    binary: bool  # for the outputs, when the request names none
    operating_point: str | None
    timeout_us: int | None  # None: the service's own


def inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body that was compressed by `Content-Encoding`. Raises UnsupportedImage, BadRequest, TooLarge."""
    if encoding.lower() not in ENCODINGS:
        raise UnsupportedImage(f"Content-Encoding {shown(encoding)} is not read: send gzip, deflate, or nothing")
    stream = zlib.decompressobj(EITHER_ENCODING)
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not {encoding.lower()} data: {error}") from error
    if len(content) > max_bytes:
        raise TooLarge(f"the body is over the limit of {max_bytes} bytes once unpacked: send fewer images")
    if not stream.eof or stream.unused_data:
        raise BadRequest(f"the {encoding.lower()} data of the body is cut short, or other bytes follow it")
    return content


def parse(body: bytes, header_length: str | None) -> InferRequest:
    """body: JSON, and binary data after the first header_length bytes. Raises BadRequest."""
    end = _json_length(header_length, len(body))
    fields = read_json(memoryview(body)[:end])
    parameters = _parameters(fields, "", ("binary_data_output", "operating_point", "timeout"))
    binary = maybe(parameters, "binary_data_output", bool, "parameters.") or False
    timeout_us = maybe(parameters, "timeout", int, "parameters.") or None  # Triton's 0: no timeout of its own
    if timeout_us is not None and timeout_us < 0:
        raise BadRequest("parameters.timeout must be 0 or more microseconds")
    point = maybe(parameters, "operating_point", str, "parameters.")
    if point is not None and len(point) > MAX_SHOWN:
        raise BadRequest(f"there is no operating point {shown(point)}")
    return InferRequest(
        id=maybe(fields, "id", str),
        input=_input(fields, memoryview(body)[end:]),
        outputs=_outputs(fields, binary=binary),
        binary=binary,
        operating_point=point,
        timeout_us=timeout_us,
    )


def read_json(data: bytes | memoryview) -> dict[str, Any]:
    """A JSON object. Raises BadRequest."""
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError as error:  # as well when it is nested too deep
        raise BadRequest(f"the body is not JSON: {error}") from error
    if type(fields) is not dict:
        raise BadRequest("the body must be a JSON object")
    return fields


def need(fields: Mapping[str, Any], key: str, kind: type[T], where: str = "") -> T:
    """fields[key], of exactly this type. Raises BadRequest."""
    value = maybe(fields, key, kind, where)
    if value is None:
        raise BadRequest(f"{where}{key} is missing")
    return value


def maybe(fields: Mapping[str, Any], key: str, kind: type[T], where: str = "") -> T | None:
    """As `need`, but None when the field is missing or null."""
    value = fields.get(key)
    if value is None or type(value) is kind:
        return value
    raise BadRequest(f"{where}{key} must be {WORDS[kind]}")


def shown(text: str) -> str:
    """A text that a client sent, as one short line."""
    return repr(text[:MAX_SHOWN]) + ("..." if len(text) > MAX_SHOWN else "")


def _json_length(header: str | None, body_bytes: int) -> int:
    if header is None:
        return body_bytes
    if not (header.isascii() and header.isdecimal() and len(header) < 20 and int(header) <= body_bytes):  # noqa: PLR2004 - digits of 64 bits
        raise BadRequest(
            f"Inference-Header-Content-Length must be the length of the JSON, at most the body's {body_bytes} bytes"
        )
    return int(header)


def _parameters(fields: Mapping[str, Any], where: str, known: Collection[str]) -> dict[str, Any]:
    """The parameters. Raises BadRequest for unknown ones, because the reply could not obey them."""
    parameters = maybe(fields, "parameters", dict, where) or {}
    for name in parameters:
        if name not in known and name != HINT:
            raise BadRequest(f"{where}parameters: {shown(name)} is not known here; known are {', '.join(known)}")
    return parameters


def _input(fields: Mapping[str, Any], binary: memoryview) -> InputTensor:
    inputs = need(fields, "inputs", list)
    if len(inputs) != 1:
        raise BadRequest(f"inputs must have one tensor, {INPUT!r}, and has {len(inputs)}: put several images into it")
    (tensor,) = inputs
    if type(tensor) is not dict:
        raise BadRequest("inputs[0] must be an object")
    where = "inputs[0]."
    if (name := need(tensor, "name", str, where)) != INPUT:
        raise BadRequest(f"there is no input {shown(name)}: the model takes {INPUT!r}")
    shape = need(tensor, "shape", list, where)
    if any(type(size) is not int for size in shape):
        raise BadRequest("inputs[0].shape must be whole numbers")
    data = maybe(tensor, "data", list, where)
    size = maybe(_parameters(tensor, where, ("binary_data_size",)), "binary_data_size", int, f"{where}parameters.")
    if (data is None) == (size is None):
        raise BadRequest("inputs[0] must have either data or the parameter binary_data_size")
    if (size or 0) != len(binary):
        raise BadRequest(f"binary_data_size is {size or 0}, and {len(binary)} bytes follow the JSON")
    raw = None if size is None else binary
    return InputTensor(need(tensor, "datatype", str, where), tuple(shape), data, raw)


def _outputs(fields: Mapping[str, Any], *, binary: bool) -> dict[str, bool] | None:
    outputs: dict[str, bool] = {}
    for output in maybe(fields, "outputs", list) or []:
        if type(output) is not dict:
            raise BadRequest("outputs must be objects")
        if (name := need(output, "name", str, "outputs.")) in outputs:
            raise BadRequest(f"the output {shown(name)} is asked for twice")
        wish = maybe(_parameters(output, "outputs.", ("binary_data",)), "binary_data", bool, "outputs.parameters.")
        outputs[name] = binary if wish is None else wish
    return outputs or None
