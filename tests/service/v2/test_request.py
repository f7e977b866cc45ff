import gzip
import zlib
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest, ServiceError, TooLarge, UnsupportedImage
from service.v2.images import images
from service.v2.request import InferRequest, inflate, parse

CANVAS = (2, 2, 1)
GOOD = {"name": "image", "shape": [1, *CANVAS], "datatype": "UINT8", "data": [1, 2, 3, 4]}
BINARY = {**{key: GOOD[key] for key in ("name", "shape", "datatype")}, "parameters": {"binary_data_size": 4}}

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just("image")
)
JSON = st.recursive(
    LEAVES, lambda part: st.one_of(st.lists(part, max_size=5), st.dictionaries(st.text(max_size=8), part, max_size=4))
)
NAMES = ("name", "shape", "datatype", "data", "parameters")
PARAMETERS = ("binary_data_size", "binary_data", "binary_data_output", "timeout", "operating_point", "shared_memory")


def mixed(names: tuple[str, ...], **right: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields: often what they should be, else anything."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(right[name], JSON) if name in right else JSON for name in names}
    )


PARTS = mixed(PARAMETERS, binary_data_size=st.integers(-1, 9), timeout=st.integers(-1, 9), binary_data=st.booleans())
TENSORS = mixed(
    NAMES,
    name=st.just("image"),
    shape=st.lists(st.integers(-1, 3), max_size=5),
    datatype=st.sampled_from(["UINT8", "BYTES", "FP32"]),
    data=st.lists(st.one_of(st.integers(-1, 256), st.text(max_size=4)), max_size=8),
    parameters=PARTS,
)
REQUESTS = mixed(
    ("id", "inputs", "outputs", "parameters"),
    inputs=st.lists(TENSORS, min_size=1, max_size=2),
    outputs=st.lists(mixed(("name", "parameters"), name=st.text(max_size=4), parameters=PARTS), max_size=3),
    parameters=PARTS,
)


def body(tensor: object = GOOD, **fields: Any) -> bytes:
    return orjson.dumps({"inputs": [tensor], **fields})


def check(data: bytes, header: str | None) -> None:
    """A request or a refusal in one short line; any other end fails the test."""
    refusal = "refused"
    try:
        images(parse(data, header).input, CANVAS, 4)
    except BadRequest as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert 0 < len(refusal) < 1000


def test_all_that_a_request_can_say_is_read() -> None:
    text = body(
        BINARY,
        id="42",
        model_name="ignored",
        parameters={"timeout": 5, "operating_point": "budget", "binary_data_output": True, "content_type": "np"},
        outputs=[{"name": "score"}, {"name": "lossy", "parameters": {"binary_data": False}}],
    )
    asked = parse(text + b"\1\2\3\4", str(len(text)))
    assert (asked.id, asked.timeout_us, asked.operating_point, asked.binary) == ("42", 5, "budget", True)
    assert asked.outputs == {"score": True, "lossy": False}
    assert (asked.input.datatype, asked.input.shape, asked.input.data) == ("UINT8", (1, 2, 2, 1), None)
    assert bytes(asked.input.raw or b"") == b"\1\2\3\4"


def test_what_is_left_out_or_null_has_its_default() -> None:
    asked = parse(body(id=None, parameters=None, outputs=[]), None)
    assert asked == InferRequest(None, asked.input, None, binary=False, operating_point=None, timeout_us=None)
    assert parse(body(parameters={"timeout": 0}), None).timeout_us is None


@pytest.mark.parametrize(
    ("data", "header", "message"),
    [
        (b"", None, "not JSON"),
        (b"[]", None, "must be a JSON object"),
        (b"[" * 100_000, None, "not JSON"),
        (b'{"inputs": [NaN]}', None, "not JSON"),
        (b'{"id": "\xff"}', None, "not JSON"),
        (b"{}", None, "inputs is missing"),
        (orjson.dumps({"inputs": {}}), None, "inputs must be an array"),
        (orjson.dumps({"inputs": []}), None, "has 0"),
        (orjson.dumps({"inputs": [GOOD, GOOD]}), None, "has 2"),
        (body(3), None, "must be an object"),
        (body({**GOOD, "name": "x\n" * 100}), None, r"no input 'x\\nx"),
        (body({**GOOD, "shape": [True, 2]}), None, "whole numbers"),
        (body({**GOOD, "shape": [1.0, 2]}), None, "whole numbers"),
        (body({**GOOD, "datatype": None}), None, "datatype is missing"),
        (body({**GOOD, "parameters": {"binary_data_size": 4}}), None, "either data or"),
        (body({"name": "image", "shape": [1], "datatype": "BYTES"}), None, "either data or"),
        (body({**GOOD, "parameters": {"shared_memory_region": "r"}}), None, "'shared_memory_region' is not known"),
        (body(id=3), None, "id must be a string"),
        (body(parameters=[]), None, "parameters must be an object"),
        (body(parameters={"timeout": True}), None, "timeout must be a whole number"),
        (body(parameters={"timeout": -1}), None, "0 or more"),
        (body(parameters={"priority": 1}), None, "'priority' is not known"),
        (body(parameters={"operating_point": 1}), None, "operating_point must be a string"),
        (body(parameters={"operating_point": "x" * 10**6}), None, "no operating point 'xxx"),
        (body(outputs=[1]), None, "outputs must be objects"),
        (body(outputs=[{}]), None, "name is missing"),
        (body(outputs=[{"name": "score"}, {"name": "score"}]), None, "asked for twice"),
        (body(outputs=[{"name": "score", "parameters": {"classification": 2}}]), None, "'classification' is not known"),
        (
            body(outputs=[{"name": "score", "parameters": {"binary_data": 1}}]),
            None,
            "binary_data must be true or false",
        ),
        (body(), "-1", "Inference-Header-Content-Length"),
        (body(), "1e3", "Inference-Header-Content-Length"),
        (body(), "9" * 5000, "Inference-Header-Content-Length"),
        (body(), str(len(body()) + 1), "Inference-Header-Content-Length"),
        (body(), str(len(body()) - 1), "not JSON"),
        (body(GOOD) + b"\0", str(len(body(GOOD))), "1 bytes follow"),
        (body(BINARY), None, "binary_data_size is 4, and 0 bytes follow"),
        (body(BINARY) + bytes(3), str(len(body(BINARY))), "binary_data_size is 4, and 3 bytes follow"),
        (body(BINARY) + bytes(5), str(len(body(BINARY))), "binary_data_size is 4, and 5 bytes follow"),
    ],
)
def test_what_is_malformed_is_told_in_one_line(data: bytes, header: str | None, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as told:
        parse(data, header)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 300


@given(data=st.binary(max_size=200), header=st.none() | st.text(max_size=5) | st.integers(-1, 210).map(str))
def test_no_bytes_end_in_anything_but_a_request_or_our_error(data: bytes, header: str | None) -> None:
    check(data, header)


@given(fields=REQUESTS, tail=st.binary(max_size=9), shift=st.integers(-2, 2))
def test_no_json_ends_in_anything_but_a_request_or_our_error(fields: Any, tail: bytes, shift: int) -> None:
    try:
        text = orjson.dumps(fields)
    except orjson.JSONEncodeError:  # numbers of more than 64 bits
        text = str(fields).replace("'", '"').encode(errors="replace")
    check(text + tail, str(len(text) + shift) if tail else None)


@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_one_wrong_byte_in_a_good_request_ends_in_a_request_or_our_error(at: int, byte: int) -> None:
    text = bytearray(body(BINARY, id="42") + b"\1\2\3\4")
    text[at % len(text)] = byte
    check(bytes(text), str(len(text) - 4))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)]
)
def test_a_compressed_body_is_unpacked(encoding: str, pack: Any) -> None:
    assert inflate(pack(b"x" * 1000), encoding, 1000) == b"x" * 1000


@pytest.mark.parametrize(
    ("data", "encoding", "error"),
    [
        (gzip.compress(bytes(10**6), mtime=0), "gzip", TooLarge),
        (zlib.compress(bytes(1001)), "deflate", TooLarge),
        (gzip.compress(b"x", mtime=0)[:-1], "gzip", BadRequest),
        (gzip.compress(b"x", mtime=0) + b"x", "gzip", BadRequest),
        (b"", "gzip", BadRequest),
        (b"plain", "deflate", BadRequest),
        (b"x", "br", UnsupportedImage),
        (b"x", "gzip, gzip", UnsupportedImage),
    ],
)
def test_a_bomb_a_cut_and_another_encoding_are_refused(data: bytes, encoding: str, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        inflate(data, encoding, 1000)


@given(data=st.binary(max_size=100), encoding=st.sampled_from(["gzip", "deflate", "br"]))
def test_no_compressed_bytes_end_in_anything_but_bytes_or_our_error(data: bytes, encoding: str) -> None:
    with suppress(ServiceError):
        assert len(inflate(data, encoding, 1000)) <= 1000
