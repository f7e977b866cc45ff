import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
import stamina

from models.contract.bundle import BundleError
from service.versions.bundle_store import BundleStore, PatientStore, StoreAway


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_store, tmp_path / "bundles")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_live_version_is_loaded(store: Path) -> None:
    bundle = BundleStore(store).load("tiny", "1")
    assert (bundle.manifest.model, bundle.manifest.version) == ("tiny", "1")
    assert BundleStore(store).models() == ["tiny"]


def test_an_unknown_model_is_refused_with_the_known_ones(store: Path) -> None:
    with pytest.raises(BundleError, match=r"no model 'pose' \(models there: tiny\)"):
        BundleStore(store).look("pose")


def test_a_store_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="set LOSSCAST_MODEL or LOSSCAST_BUNDLES"):
        BundleStore(tmp_path / "nowhere").look("tiny")


def test_a_store_that_cannot_be_read_is_away_and_not_empty(tmp_path: Path) -> None:
    with pytest.raises(StoreAway, match="cannot be read"):
        BundleStore(tmp_path / ("x" * 300)).models()


def test_one_flipped_bit_of_the_onnx_is_refused(store: Path) -> None:
    path = store / "tiny/1/model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"is damaged: model\.onnx does not have the SHA-256"):
        BundleStore(store).load("tiny", "1")


def test_a_missing_onnx_is_refused(store: Path) -> None:
    (store / "tiny/1/model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx cannot be read"):
        BundleStore(store).load("tiny", "1")


def test_a_newer_format_is_refused_by_its_version(store: Path) -> None:
    edit(store / "tiny/1/manifest.json", format_version=2, something_new=True)
    with pytest.raises(BundleError, match="format version 2, this program reads 1: upgrade"):
        BundleStore(store).load("tiny", "1")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b'"text"', b"\xff\xfe"])
def test_a_damaged_manifest_is_refused(store: Path, content: bytes) -> None:
    (store / "tiny/1/manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        BundleStore(store).load("tiny", "1")


def test_a_manifest_field_of_the_wrong_type_is_named(store: Path) -> None:
    edit(store / "tiny/1/manifest.json", embedding_size="four")
    with pytest.raises(BundleError, match="embedding_size"):
        BundleStore(store).load("tiny", "1")


def test_the_manifest_of_another_version_is_refused(store: Path) -> None:
    edit(store / "tiny/1/manifest.json", version="2")
    with pytest.raises(BundleError, match="its manifest is for tiny 2"):
        BundleStore(store).load("tiny", "1")


def test_a_version_that_is_not_there_is_refused(store: Path) -> None:
    with pytest.raises(BundleError, match="7 is not a bundle"):
        BundleStore(store).load("tiny", "7")


def test_a_damaged_index_is_refused(store: Path) -> None:
    (store / "tiny/model.json").write_text('{"live": "one"}')
    with pytest.raises(BundleError, match=r"model\.json is damaged"):
        BundleStore(store).look("tiny")


def test_named_versions_come_once_each_and_the_live_one_first(store: Path) -> None:
    edit(store / "tiny/model.json", live=3, previous=2, shadow=3)
    assert BundleStore(store).look("tiny").versions == ["3", "2"]


def test_a_look_differs_from_the_last_one_only_when_a_named_version_changed(store: Path) -> None:
    first = BundleStore(store).look("tiny")
    shutil.copytree(store / "tiny/1", store / "tiny/2")
    assert BundleStore(store).look("tiny") == first
    edit(store / "tiny/model.json", previous=2)
    second = BundleStore(store).look("tiny")
    assert second != first
    (store / "tiny/2/model.onnx").unlink()
    assert BundleStore(store).look("tiny") != second


async def test_a_store_that_hangs_blocks_nothing_and_is_asked_again_once_it_answers(store: Path) -> None:
    path = store / "tiny/model.json"
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)  # a reader waits for a writer
    patient = PatientStore(BundleStore(store))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await patient.look("tiny")
    assert patient.silent_s > 0
    with pytest.raises(StoreAway, match="does not answer"):
        await patient.look("tiny")
    assert await asyncio.to_thread(path.write_bytes, content)
    path.unlink()
    path.write_bytes(content)
    async for attempt in stamina.retry_context(on=StoreAway, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await patient.look("tiny")).versions == ["1"]
    assert patient.silent_s == 0
