"""The bundle store as files: where things lie, how they are checked, and how they are replaced.

`<store>/<model>/<version>/` holds model.onnx, manifest.json and model_card.md; beside the versions
lie model.json (the authority on what is served) and config.pbtxt, generated from it for Triton.
Everything is written elsewhere and renamed into place, so a reader never sees half of it.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.contract.manifest import Manifest, ManifestError, parse_manifest

Version = Annotated[int, Field(ge=1)]

MAX_BATCH_SIZE = 32  # images in one request of the Open Inference Protocol, to Triton and to our own /v2


class BundleError(ValueError):
    """A bundle or its store cannot be used; the message says what is wrong and what to do."""


class ModelIndex(BaseModel):
    """`model.json`: the versions of one model that are served, and the one to go back to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    live: Version
    previous: Version | None = None
    shadow: Version | None = None


def read_manifest(folder: Path) -> Manifest:
    """Manifest of the version in `folder`. Raises BundleError, naming the folder."""
    try:
        return parse_manifest((folder / "manifest.json").read_bytes())
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: manifest.json cannot be read ({error.strerror})") from error
    except ManifestError as error:
        raise BundleError(f"{folder}: {error}") from error


def read_onnx(folder: Path, manifest: Manifest) -> bytes:
    """The bytes of model.onnx, equal to what the manifest signed. Raises BundleError otherwise."""
    try:
        data = (folder / "model.onnx").read_bytes()
    except OSError as error:
        raise BundleError(f"{folder} is damaged: model.onnx cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != manifest.onnx_sha256:
        raise BundleError(f"{folder} is damaged: model.onnx does not have the SHA-256 of its manifest; export it again")
    return data


def read_index(model_folder: Path) -> ModelIndex:
    """What is served of a model. Raises BundleError when model.json is missing or damaged."""
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
    """Replaces model.json atomically and generates config.pbtxt from it and the live manifest."""
    manifest = read_manifest(model_folder / str(index.live))
    _replace(model_folder / "config.pbtxt", triton_config(manifest, index).encode())
    _replace(model_folder / "model.json", orjson.dumps(index.model_dump(), option=orjson.OPT_INDENT_2) + b"\n")


def check_store(store: Path, model: str) -> None:
    """Raises BundleError unless the store can take a version of the model: to be asked before hours of training."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass  # it has no name: whoever watches the store does not see it
    except OSError as error:
        raise BundleError(f"{store} cannot be written to as a bundle store ({error.strerror})") from error
    if (store / model / "model.json").exists():
        read_index(store / model)


def publish(store: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Writes one version of a model beside the others and returns its folder.

    files: contents by name, model.onnx and model_card.md among them; the manifest is added. Raises
    BundleError when that version exists: versions are never rewritten.
    """
    target = store / manifest.model / manifest.version
    if target.exists():
        raise BundleError(f"{target} exists: versions are never rewritten; choose another")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
    try:
        staging.chmod(0o755)
        for name, content in {**files, "manifest.json": manifest.to_json()}.items():
            _write(staging / name, content)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync_folder(target.parent)
    return target


def make_live(folder: Path) -> None:
    """Makes the version in `folder` the live one of its model, and the one before it `previous`."""
    model_folder, number = folder.parent, int(folder.name)
    if (model_folder / "model.json").exists():
        before = read_index(model_folder)
        index = ModelIndex(live=number, previous=before.live, shadow=before.shadow)
    else:
        index = ModelIndex(live=number)
    write_index(model_folder, index)


def next_version(model_folder: Path) -> int:
    """One above the highest version present; 1 in a new store."""
    return max((int(path.name) for path in model_folder.glob("*") if path.name.isdecimal()), default=0) + 1


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


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    _write(staging, content)
    staging.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
