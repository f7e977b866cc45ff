import json
import shutil
from pathlib import Path

import pytest

from models.contract.bundle import BundleError
from service.bundle_store import BundleStore


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_store, tmp_path / "bundles")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_live_version_is_loaded(store: Path) -> None:
    bundle = BundleStore(store).load("tiny")
    assert (bundle.manifest.model, bundle.manifest.version) == ("tiny", "1")
    assert BundleStore(store).models() == ["tiny"]


def test_an_unknown_model_is_refused_with_the_known_ones(store: Path) -> None:
    with pytest.raises(BundleError, match=r"no model 'pose' \(models there: tiny\)"):
        BundleStore(store).load("pose")


def test_a_store_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="set LOSSCAST_MODEL or LOSSCAST_BUNDLES"):
        BundleStore(tmp_path / "nowhere").load("tiny")


def test_one_flipped_bit_of_the_onnx_is_refused(store: Path) -> None:
    path = store / "tiny/1/model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"is damaged: model\.onnx does not have the SHA-256"):
        BundleStore(store).load("tiny")


def test_a_missing_onnx_is_refused(store: Path) -> None:
    (store / "tiny/1/model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx cannot be read"):
        BundleStore(store).load("tiny")


def test_a_newer_format_is_refused_by_its_version(store: Path) -> None:
    edit(store / "tiny/1/manifest.json", format_version=2, something_new=True)
    with pytest.raises(BundleError, match="format version 2, this program reads 1: upgrade"):
        BundleStore(store).load("tiny")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b'"text"', b"\xff\xfe"])
def test_a_manifest_that_is_none_is_refused(store: Path, content: bytes) -> None:
    (store / "tiny/1/manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        BundleStore(store).load("tiny")


def test_a_manifest_field_of_the_wrong_type_is_named(store: Path) -> None:
    edit(store / "tiny/1/manifest.json", embedding_size="four")
    with pytest.raises(BundleError, match="embedding_size"):
        BundleStore(store).load("tiny")


def test_the_manifest_of_another_version_is_refused(store: Path) -> None:
    edit(store / "tiny/1/manifest.json", version="2")
    with pytest.raises(BundleError, match="its manifest is for tiny 2"):
        BundleStore(store).load("tiny")


def test_an_index_that_names_a_version_that_is_not_there_is_refused(store: Path) -> None:
    edit(store / "tiny/model.json", live=7)
    with pytest.raises(BundleError, match="7 is not a bundle"):
        BundleStore(store).load("tiny")


def test_a_damaged_index_is_refused(store: Path) -> None:
    (store / "tiny/model.json").write_text('{"live": "one"}')
    with pytest.raises(BundleError, match=r"model\.json is damaged"):
        BundleStore(store).load("tiny")
