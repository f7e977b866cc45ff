from pathlib import Path

import pytest

from models.contract.bundle import BundleError, next_version, publish, read_manifest
from models.contract.manifest import Manifest

FILES = {"model.onnx": b"onnx", "model_card.md": b"# card\n"}


def test_a_published_version_reads_back_and_leaves_nothing_beside_it(tmp_path: Path, tiny_version: Manifest) -> None:
    folder = publish(tmp_path, tiny_version, FILES)
    assert read_manifest(folder) == tiny_version
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx", "model_card.md"]
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["1"]


def test_versions_are_never_rewritten(tmp_path: Path, tiny_version: Manifest) -> None:
    publish(tmp_path, tiny_version, FILES)
    with pytest.raises(BundleError, match="never rewritten"):
        publish(tmp_path, tiny_version, FILES)


def test_a_failed_publish_leaves_nothing_behind(tmp_path: Path, tiny_version: Manifest) -> None:
    with pytest.raises(FileNotFoundError):
        publish(tmp_path, tiny_version, {**FILES, "no/such/folder": b""})
    assert list((tmp_path / "tiny").iterdir()) == []


def test_the_next_version_ignores_candidates(tmp_path: Path) -> None:
    assert next_version(tmp_path / "tiny") == 1
    for name in ("2", "10", "candidate-11", ".staging-12"):
        (tmp_path / "tiny" / name).mkdir(parents=True)
    assert next_version(tmp_path / "tiny") == 11
