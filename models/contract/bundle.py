"""One version of a model as files: where they lie, how they are checked, and how a version is published.

`<store>/<model>/<version>/` holds model.onnx, manifest.json and model_card.md. `models.contract.index` says which
versions are served. A version is written elsewhere and renamed into place, so a reader never sees half of it.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from models.contract.durable import sync_folder, write_durably
from models.contract.manifest import Manifest, ManifestError, parse_manifest


class BundleError(ValueError):
    """A bundle or its store cannot be used; the message says what is wrong and what to do."""


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
            write_durably(staging / name, content)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(target.parent)
    return target


def next_version(model_folder: Path) -> int:
    """One above the highest version present; 1 in a new store."""
    return max((int(path.name) for path in model_folder.glob("*") if path.name.isdecimal()), default=0) + 1
