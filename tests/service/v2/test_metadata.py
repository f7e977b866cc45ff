import re
from pathlib import Path
from typing import Any

import pytest

from models.contract.bundle import read_manifest
from models.contract.index import read_index
from models.contract.manifest import Manifest
from service.v2.metadata import configuration, metadata

BUNDLES = sorted(path.parent for path in Path(__file__).parents[3].glob("bundles/*/model.json"))
ENTRY = re.compile(r'name: "(\w+)", data_type: (TYPE_\w+), dims: \[ ([\d, ]+) \]')


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
