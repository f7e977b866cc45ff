from pathlib import Path

import pytest

from models.contract.bundle import BundleError, next_version, publish, read_manifest
from models.contract.index import ModelIndex, check_store, read_index, triton_config, write_index
from models.contract.manifest import Manifest

FILES = {"model.onnx": b"onnx", "model_card.md": b"# card\n"}


def test_a_published_version_reads_back_and_leaves_nothing_beside_it(tmp_path: Path, tiny_version: Manifest) -> None:
    folder = publish(tmp_path, tiny_version, FILES)
    assert read_manifest(folder) == tiny_version
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx", "model_card.md"]
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["1"]


def test_a_store_that_can_take_a_version_is_left_as_it_was(tmp_path: Path, tiny_version: Manifest) -> None:
    check_store(tmp_path / "new", "tiny")
    assert list((tmp_path / "new").iterdir()) == []
    write_index(publish(tmp_path, tiny_version, FILES).parent, ModelIndex(live=1))
    check_store(tmp_path, "tiny")


def test_a_store_that_cannot_take_a_version_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for store in (tmp_path / "file", tmp_path / "file" / "bundles"):
        with pytest.raises(BundleError, match="cannot be written to as a bundle store"):
            check_store(store, "tiny")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.json").write_text("{")
    with pytest.raises(BundleError, match="is damaged"):
        check_store(tmp_path, "tiny")


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


def test_the_index_is_the_authority_and_tritons_config_follows_it(tmp_path: Path, tiny_version: Manifest) -> None:
    publish(tmp_path, tiny_version, FILES)
    write_index(tmp_path / "tiny", ModelIndex(live=1))
    assert read_index(tmp_path / "tiny") == ModelIndex(live=1)
    assert "versions: [ 1 ]" in (tmp_path / "tiny/config.pbtxt").read_text()


def test_an_index_for_a_version_that_is_not_there_is_refused(tmp_path: Path, tiny_version: Manifest) -> None:
    publish(tmp_path, tiny_version, FILES)
    with pytest.raises(BundleError, match="is not a bundle"):
        write_index(tmp_path / "tiny", ModelIndex(live=2))


def test_tritons_config_names_every_input_and_output(tiny_version: Manifest) -> None:
    text = triton_config(tiny_version, ModelIndex(live=3))
    assert 'name: "image", data_type: TYPE_UINT8, dims: [ 8, 8, 1 ]' in text
    for output in tiny_version.output_shapes:
        assert f'name: "{output}", data_type: TYPE_FP32' in text
    assert text.count("{") == text.count("}")
