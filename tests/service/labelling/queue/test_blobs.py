import os
from pathlib import Path

import pytest

from service.errors import NotFound, StartError, Unavailable
from service.labelling.queue.blobs import Blob, BlobStore

ID = "ab" + "0" * 30


@pytest.fixture(params=["folder", "file URL", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    places: dict[str, str | Path] = {
        "folder": tmp_path / "blobs",
        "file URL": (tmp_path / "a b").as_uri(),
        "object store": "memory:///",
    }
    return BlobStore.open(places[request.param])


async def test_an_image_comes_back_byte_for_byte(store: BlobStore) -> None:
    image = bytes(range(256)) * 100
    await store.put(ID, image, "image/png")
    assert await store.get(ID) == image


async def test_putting_again_is_no_error(store: BlobStore) -> None:
    await store.put(ID, b"image", "image/png")
    await store.put(ID, b"image", "image/png")
    assert await store.get(ID) == b"image"


@pytest.mark.parametrize("sample_id", ["0" * 32, "../../etc/passwd", "", "AB" + "0" * 30])
async def test_a_missing_blob_is_not_found(store: BlobStore, sample_id: str) -> None:
    await store.put(ID, b"image", "image/png")
    with pytest.raises(NotFound):
        await store.get(sample_id)


async def test_many_blobs_come_back_and_each_fault_is_told_apart(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path)
    names = [f"images/m/1/{n % 7:02x}/{n:032x}-1" for n in range(600)]
    (tmp_path / "images/m/1").mkdir(parents=True)
    (tmp_path / "images/m/1/03").write_text("in the way")
    outcomes = await store.put_all([Blob(name, name.encode(), "image/png") for name in names])
    for name, error in zip(names, outcomes, strict=True):
        assert isinstance(error, Unavailable) == ("/03/" in name)
        if error is None:
            assert await store.get(name) == name.encode()


async def test_deleted_blobs_are_gone_and_those_that_were_never_there_are_no_fault(store: BlobStore) -> None:
    name = f"images/m/1/ab/{ID}-1"
    await store.put(name, b"image", "image/png")
    assert [chunk async for chunk in store.names("images/m/")] == [[name]]
    assert await store.delete_all([name, f"images/m/1/ab/{ID}-2"]) == [None, None]
    with pytest.raises(NotFound):
        await store.get(name)


async def test_a_file_that_a_power_cut_left_incomplete_is_written_again(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path)
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / ID).write_bytes(b"\0\0")
    await store.put(ID, b"image", "image/png")
    assert (tmp_path / "ab" / ID).read_bytes() == b"image"


async def test_a_local_image_is_on_disk_with_its_folders_when_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    await BlobStore.open(tmp_path).put(ID, b"image", "image/png")
    assert synced[0] == str(tmp_path / "ab" / ID)
    assert set(synced[1:]) == {str(tmp_path / "ab"), str(tmp_path)}


async def test_a_store_that_refuses_is_unavailable(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path)
    (tmp_path / "ab").write_text("in the way")
    with pytest.raises(Unavailable, match="blob store"):
        await store.put(ID, b"image", "image/png")


def test_an_invalid_place_is_refused() -> None:
    with pytest.raises(StartError, match="LOSSCAST_BLOBS"):
        BlobStore.open("gopher://somewhere/else")
