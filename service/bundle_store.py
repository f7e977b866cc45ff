"""Finds, verifies and loads bundles. What is served is what `model.json` names as live."""

from dataclasses import dataclass
from pathlib import Path

from models.contract.bundle import BundleError, read_index, read_manifest, read_onnx
from models.contract.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    manifest: Manifest
    onnx: bytes


class BundleStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def models(self) -> list[str]:
        """Names of the models in the store."""
        return sorted(path.parent.name for path in self._folder.glob("*/model.json"))

    def load(self, model: str) -> Bundle:
        """The live version of a model, verified. Raises BundleError when it is missing or damaged."""
        if model not in self.models():
            known = ", ".join(self.models()) or "none"
            raise BundleError(
                f"{self._folder} has no model {model!r} (models there: {known}): "
                f"set LOSSCAST_MODEL or LOSSCAST_BUNDLES, or run `losscast train {model} --out {self._folder}`"
            )
        version = str(read_index(self._folder / model).live)
        folder = self._folder / model / version
        manifest = read_manifest(folder)
        if (manifest.model, manifest.version) != (model, version):
            raise BundleError(f"{folder} is damaged: its manifest is for {manifest.model} {manifest.version}")
        return Bundle(manifest, read_onnx(folder, manifest))
