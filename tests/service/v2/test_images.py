import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.v2.images import images
from service.v2.request import InputTensor

CANVAS = (2, 2, 1)


def tensor(datatype: str, shape: list[int], data: list[Any] | None = None, raw: bytes | None = None) -> InputTensor:
    return InputTensor(datatype, tuple(shape), data, None if raw is None else memoryview(raw))


def packed(files: list[bytes]) -> bytes:
    return b"".join(len(file).to_bytes(4, "little") + file for file in files)


@given(files=st.lists(st.binary(max_size=20), min_size=1, max_size=4), column=st.booleans())
def test_files_come_back_in_order_from_both_forms(files: list[bytes], column: bool) -> None:  # noqa: FBT001 - given by hypothesis
    shape = [len(files), 1] if column else [len(files)]
    texts: list[Any] = [base64.b64encode(file).decode() for file in files]
    assert images(tensor("BYTES", shape, raw=packed(files)), CANVAS, 4) == files
    assert images(tensor("BYTES", shape, texts), CANVAS, 4) == files
    if column:
        assert images(tensor("BYTES", shape, [[text] for text in texts]), CANVAS, 4) == files


def test_canvases_come_back_from_binary_flat_and_nested_data() -> None:
    canvases = np.arange(8, dtype=np.uint8).reshape(2, *CANVAS)
    for given_as in (
        tensor("UINT8", [2, *CANVAS], raw=canvases.tobytes()),
        tensor("UINT8", [2, *CANVAS], canvases.ravel().tolist()),
        tensor("UINT8", [2, *CANVAS], canvases.tolist()),
    ):
        read = images(given_as, CANVAS, 4)
        assert np.array_equal(np.stack(read), canvases)


@pytest.mark.parametrize(
    ("given_as", "message"),
    [
        (tensor("FP32", [1, *CANVAS], [1, 2, 3, 4]), "datatype 'FP32'"),
        (tensor("uint8", [1, *CANVAS], [1, 2, 3, 4]), "datatype 'uint8'"),
        (tensor("UINT8", [], []), r"shape \[n, 2, 2, 1\]"),
        (tensor("UINT8", [2, 2, 1], [1, 2, 3, 4]), r"shape \[n, 2, 2, 1\]"),
        (tensor("UINT8", [1, 2, 2, 3], [1] * 12), r"shape \[n, 2, 2, 1\]"),
        (tensor("UINT8", [0, *CANVAS], []), "holds 0 images"),
        (tensor("UINT8", [-1, *CANVAS], []), "holds -1 images"),
        (tensor("UINT8", [2**62, *CANVAS], []), "send 1 to 4"),
        (tensor("UINT8", [5, *CANVAS], [0] * 20), "holds 5 images"),
        (tensor("UINT8", [1, *CANVAS], raw=bytes(3)), "needs 4 bytes, and 3 came"),
        (tensor("UINT8", [1, *CANVAS], [1, 2, 3]), "do not fit"),
        (tensor("UINT8", [1, *CANVAS], [1, 2, 3, 256]), "outside 0 to 255"),
        (tensor("UINT8", [1, *CANVAS], [1, 2, 3, -1]), "outside 0 to 255"),
        (tensor("UINT8", [1, *CANVAS], [1, 2, 3, True]), "whole numbers"),
        (tensor("UINT8", [1, *CANVAS], [1, 2, 3, 4.0]), "whole numbers"),
        (tensor("UINT8", [1, *CANVAS], [1, 2, 3, None]), "whole numbers"),
        (tensor("UINT8", [1, *CANVAS], [1, 2, 3, [4]]), "whole numbers"),
        (tensor("UINT8", [1, *CANVAS], [[[[1], [2]], [[3]]]]), "not nested"),
        (tensor("UINT8", [1, *CANVAS], [[[1, 2], [3, 4]]]), "not nested"),
        (tensor("BYTES", [], ["eA=="]), r"shape \[n\] or \[n, 1\]"),
        (tensor("BYTES", [1, 2], ["eA==", "eA=="]), r"shape \[n\] or \[n, 1\]"),
        (tensor("BYTES", [1], [7]), "strings"),
        (tensor("BYTES", [1], ["not base64"]), "element 0 must be an image file in base64"),
        (tensor("BYTES", [1], ["é"]), "element 0 must be an image file in base64"),
        (tensor("BYTES", [2], ["eA=="]), "do not fit"),
        (tensor("BYTES", [1], raw=b""), "element 0 is longer"),
        (tensor("BYTES", [1], raw=b"\1\0\0"), "element 0 is longer"),
        (tensor("BYTES", [1], raw=b"\2\0\0\0x"), "element 0 is longer"),
        (tensor("BYTES", [2], raw=packed([b"x"]) + b"\xff\xff\xff\xff"), "element 1 is longer"),
        (tensor("BYTES", [1], raw=packed([b"x", b"y"])), "5 bytes of binary data follow"),
    ],
)
def test_a_tensor_that_does_not_hold_images_is_refused(given_as: InputTensor, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        images(given_as, CANVAS, 4)
