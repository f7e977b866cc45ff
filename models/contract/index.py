"""Which versions of a model are served: `model.json`, and the config.pbtxt for Triton that is generated from it.

Both lie beside the versions in `<store>/<model>/`, and both are replaced atomically. model.json is the one authority;
`models.contract.live` changes it.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.contract.bundle import BundleError, read_manifest
from models.contract.durable import replace_durably
from models.contract.manifest import Manifest

MAX_BATCH_SIZE = 32  # images in one request of the Open Inference Protocol, to Triton and to our own /v2

Version = Annotated[int, Field(ge=1)]


class ModelIndex(BaseModel):
    """`model.json`: the versions of one model that are served, and the previous one to go back to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    live: Version
    previous: Version | None = None
    shadow: Version | None = None


def read_index(model_folder: Path) -> ModelIndex:
    """The served versions of a model. Raises BundleError when model.json is missing or damaged."""
    path = model_folder / "model.json"
    try:
        return ModelIndex.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}): is {model_folder.parent} a bundle store?"
        ) from error
    except ValidationError as error:
        raise BundleError(f"{path} is damaged: {error.errors()[0]['msg']}") from error


def write_index(model_folder: Path, index: ModelIndex) -> None:
    """Replaces model.json atomically and generates config.pbtxt from it and the live manifest.

    It takes no lock and writes no history: `models.contract.live` does both around it.
    """
    manifest = read_manifest(model_folder / str(index.live))
    replace_durably(model_folder / "config.pbtxt", triton_config(manifest, index).encode())
    replace_durably(model_folder / "model.json", orjson.dumps(index.model_dump(), option=orjson.OPT_INDENT_2) + b"\n")


def check_store(store: Path, model: str) -> None:
    """Raises BundleError unless the store can take a version of the model. Call it before hours of training."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass  # it has no name: a service that watches the store does not see it
    except OSError as error:
        raise BundleError(f"{store} cannot be written to as a bundle store ({error.strerror})") from error
    if (store / model / "model.json").exists():
        read_index(store / model)


def triton_config(manifest: Manifest, index: ModelIndex) -> str:
    """config.pbtxt for the ONNX Runtime backend of Triton, serving exactly the live version."""
    outputs = ",\n".join(
        f'  {{ name: "{name}", data_type: TYPE_FP32, dims: [ {", ".join(map(str, shape)) or "1"} ]'
        f"{'' if shape else ', reshape: { shape: [ ] }'} }}"
        for name, shape in manifest.output_shapes.items()
    )
    canvas = ", ".join(map(str, manifest.preprocessing.canvas_shape))
    return f"""name: "{manifest.model}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH_SIZE}
input [
  {{ name: "image", data_type: TYPE_UINT8, dims: [ {canvas} ] }}
]
output [
{outputs}
]
version_policy: {{ specific: {{ versions: [ {index.live} ] }} }}
dynamic_batching {{ }}
"""
