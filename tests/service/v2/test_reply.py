from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.contract.manifest import Manifest
from service.errors import BadRequest, ModelFault
from service.inference.outcome import Forecast, Outcome
from service.inference.verdict import Verdict
from service.v2.metadata import metadata
from service.v2.reply import Array, outputs_of, tensors, write

FLOATS = arrays(
    np.float32, array_shapes(max_dims=3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
FLAGS = arrays(np.bool_, array_shapes(max_dims=2))


def outcome(embedding: float = 0.5, *, lossy: bool = False) -> Outcome:
    points = np.arange(4, dtype=np.float32).reshape(2, 2)
    forecast = Forecast(points, 0.25, 1.5, 2.5, np.full(4, embedding, np.float32))
    verdict = Verdict(lossy, ("predicted_loss",) if lossy else (), "budget")
    return Outcome(
        "r", "s", "tiny", "1", points.astype(np.float64), forecast, verdict, value=0.0, ood_value=0.0, audited=False
    )


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


def test_outcomes_become_tensors_of_the_promised_shapes(tiny_version: Manifest) -> None:
    promised = {one["name"]: one["shape"][1:] for one in metadata(tiny_version, ["1"])["outputs"]}
    made = tensors([outcome(), outcome(lossy=True)], tiny_version, promised)
    assert {name: list(tensor.shape) for name, tensor in made.items()} == {
        name: [2, *shape] for name, shape in promised.items()
    }
    assert made["lossy"].tolist() == [[False], [True]]
    assert made["predicted_loss"].tolist() == [[1.5], [1.5]]
    assert made["prediction"][1].tolist() == [[0, 1], [2, 3]]


def test_a_model_that_scores_keypoints_has_that_output_too(tiny_version: Manifest) -> None:
    scoring = tiny_version.model_copy(update={"keypoint_loss": True})
    one = outcome()
    scored = replace(one, forecast=replace(one.forecast, keypoint_loss=np.array([0.5, 1.5], np.float32)))
    assert {"name": "keypoint_loss", "datatype": "FP32", "shape": [-1, 2]} in metadata(scoring, ["1"])["outputs"]
    assert tensors([scored], scoring, ["keypoint_loss"])["keypoint_loss"].tolist() == [[0.5, 1.5]]


def test_an_embedding_that_is_not_finite_is_a_model_fault_of_its_image_where_it_is_asked_for(
    tiny_version: Manifest,
) -> None:
    outcomes = [outcome(), outcome(np.nan)]
    with pytest.raises(ModelFault, match="image 1: embedding"):
        tensors(outcomes, tiny_version, ["score", "embedding"])
    assert list(tensors(outcomes, tiny_version, ["lossy", "score"])) == ["lossy", "score"]


def test_only_outputs_that_are_there_can_be_asked_for(tiny_version: Manifest) -> None:
    assert outputs_of(tiny_version, {"lossy": True, "score": False}, binary=False) == {"lossy": True, "score": False}
    assert set(outputs_of(tiny_version, None, binary=True).values()) == {True}
    with pytest.raises(BadRequest, match="no output 'keypoint_loss': the model has prediction, score"):
        outputs_of(tiny_version, {"keypoint_loss": True}, binary=False)
