import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.v2.reply import Array, write

FLOATS = arrays(
    np.float32, array_shapes(max_dims=3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
FLAGS = arrays(np.bool_, array_shapes(max_dims=2))


@given(floats=FLOATS, flags=FLAGS, binary=st.fixed_dictionaries({"a": st.booleans(), "b": st.booleans()}))
def test_what_is_written_can_be_read_back_from_both_forms(floats: Array, flags: Array, binary: dict[str, bool]) -> None:
    body, headers = write({"id": "1"}, {"a": floats, "b": flags}, binary)
    end = int(headers.get("inference-header-content-length", len(body)))
    fields, rest = orjson.loads(body[:end]), body[end:]
    assert fields["id"] == "1"
    for output, tensor, kind in zip(fields["outputs"], (floats, flags), ("<f4", "?"), strict=True):
        assert output["shape"] == list(tensor.shape)
        if binary[output["name"]]:
            size = output["parameters"]["binary_data_size"]
            read, rest = np.frombuffer(rest[:size], kind), rest[size:]
        else:
            read = np.array(output["data"], kind)
        assert read.tobytes() == tensor.tobytes()
    assert not rest
    assert ("inference-header-content-length" in headers) == any(binary.values())
    assert headers["content-type"] == f"application/{'octet-stream' if any(binary.values()) else 'json'}"
