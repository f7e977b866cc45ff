from pathlib import Path

import pytest

from models.contract.bundle import BundleError, publish
from models.contract.index import ModelIndex, check_store, read_index, triton_config, write_index
from models.contract.manifest import Manifest

FILES = {"model.onnx": b"onnx", "model_card.md": b"# card\n"}


def test_a_store_that_can_take_a_version_is_left_as_it_was(tmp_path: Path, tiny_version: Manifest) -> None:
    check_store(tmp_path / "new", "tiny")
    assert list((tmp_path / "new").iterdir()) == []
    write_index(publish(tmp_path, tiny_version, FILES).parent, ModelIndex(live=1))
    check_store(tmp_path, "tiny")


def test_a_store_that_cannot_take_a_version_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for store in (tmp_path / "file", tmp_path / "file" / "bundles"):
        with pytest.raises(BundleError, match="cannot be written to as a bundle store"):
            check_store(store, "tiny")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.json").write_text("{")
    with pytest.raises(BundleError, match="is damaged"):
        check_store(tmp_path, "tiny")


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
