import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.contract.bundle import read_manifest
from models.contract.index import read_index
from models.contract.manifest import Manifest
from service.errors import BadRequest, ModelFault
from service.inference.outcome import Forecast, Outcome, Verdict
from service.v2.metadata import configuration, metadata, outputs_of, tensors

BUNDLES = sorted(path.parent for path in Path(__file__).parents[3].glob("bundles/*/model.json"))
ENTRY = re.compile(r'name: "(\w+)", data_type: (TYPE_\w+), dims: \[ ([\d, ]+) \]')


def outcome(embedding: float = 0.5, *, lossy: bool = False) -> Outcome:
    points = np.arange(4, dtype=np.float32).reshape(2, 2)
    forecast = Forecast(points, 0.25, 1.5, 2.5, np.full(4, embedding, np.float32))
    verdict = Verdict(lossy, ("predicted_loss",) if lossy else (), "budget")
    return Outcome(
        "r", "s", "tiny", "1", points.astype(np.float64), forecast, verdict, value=0.0, ood_value=0.0, audited=False
    )


def test_the_metadata_name_every_tensor(tiny_version: Manifest) -> None:
    fields = metadata(tiny_version, ["1", "2"])
    assert (fields["name"], fields["versions"], fields["platform"]) == ("tiny", ["1", "2"], "onnxruntime_onnx")
    assert fields["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}]
    assert [(one["name"], one["datatype"], one["shape"]) for one in fields["outputs"]] == [
        ("prediction", "FP32", [-1, 2, 2]),
        ("score", "FP32", [-1, 1]),
        ("predicted_loss", "FP32", [-1, 1]),
        ("ood_score", "FP32", [-1, 1]),
        ("embedding", "FP32", [-1, 4]),
        ("lossy", "BOOL", [-1, 1]),
    ]


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_the_configuration_is_the_one_that_triton_reads_with_the_verdict(folder: Path) -> None:
    text = (folder / "config.pbtxt").read_text()
    live = read_index(folder).live
    fields = configuration(read_manifest(folder / str(live)), [str(live)])
    assert f'name: "{fields["name"]}"\nbackend: "{fields["backend"]}"\n' in text
    assert f"max_batch_size: {fields['max_batch_size']}\n" in text
    assert f"versions: {fields['version_policy']['specific']['versions']}".replace("[", "[ ").replace("]", " ]") in text
    stated: list[dict[str, Any]] = [
        {"name": name, "data_type": kind, "dims": [int(size) for size in dims.split(",")]}
        for name, kind, dims in ENTRY.findall(text)
    ]
    *own, verdict = [{key: one[key] for key in stated[0]} for one in fields["input"] + fields["output"]]
    assert own == stated
    assert verdict == {"name": "lossy", "data_type": "TYPE_BOOL", "dims": [1]}
    assert text.count("reshape") == sum("reshape" in one for one in fields["output"]) - 1


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
