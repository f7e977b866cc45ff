"""The blob store: the image files of samples, as posted, under their sample ids.

A folder by default, or any store that obstore speaks to (s3://, gs://, az://). A blob is written once
and never changed. An object store keeps what it has confirmed; a local file that obstore wrote is not
fsynced, so that is done here, and a file that a power cut left torn is written anew.
"""

import asyncio
import os
import re
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from service.errors import NotFound, Unavailable

_ID = re.compile(r"[0-9a-f]{32}")


class BlobStore:
    """Made by `BlobStore.open`. `root` is the folder of a local store, None for any other."""

    def __init__(self, store: ObjectStore, root: Path | None) -> None:
        self._store = store
        self._root = root

    @classmethod
    def open(cls, place: str | Path) -> Self:
        """place: a folder, or a URL that obstore understands; credentials come from its environment variables.

        Raises ValueError for a URL that cannot be used, OSError for a folder that cannot be made.
        """
        url = urlsplit(str(place))
        if url.scheme in ("", "file"):
            root = Path(unquote(url.path) if url.scheme else place).resolve()
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(LocalStore(root), root)
        try:
            return cls(from_url(str(place)), None)
        except BaseError as error:
            raise ValueError(f"LOSSCAST_BLOBS cannot be used: {_line(error)}") from error

    async def put(self, sample_id: str, image: bytes, content_type: str) -> None:
        """Returns once the image is safe. One that is there already stays. Raises Unavailable."""
        key = _key(sample_id)
        try:
            if self._root:
                await self._put_local(self._root, key, image)
            else:
                await self._create(key, image, {"Content-Type": content_type})
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store refuses {sample_id}: {_line(error)}") from error

    async def get(self, sample_id: str) -> bytes:
        """The image file's bytes. Raises NotFound or Unavailable."""
        if not _ID.fullmatch(sample_id):
            raise NotFound(f"no image {sample_id}")
        try:
            reply = await obstore.get_async(self._store, _key(sample_id))
            return bytes(await reply.bytes_async())
        except FileNotFoundError as error:
            raise NotFound(f"no image {sample_id}") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store does not give {sample_id}: {_line(error)}") from error

    async def _create(self, key: str, image: bytes, attributes: dict[str, str] | None = None) -> bool:
        """Whether the blob is new."""
        try:
            await obstore.put_async(self._store, key, image, mode="create", attributes=attributes)
        except AlreadyExistsError:
            return False
        return True

    async def _put_local(self, root: Path, key: str, image: bytes) -> None:
        created = await self._create(key, image)
        if not created and await asyncio.to_thread((root / key).read_bytes) != image:
            await obstore.put_async(self._store, key, image, mode="overwrite")
        await asyncio.to_thread(_sync, root / key, root)


def _key(sample_id: str) -> str:
    return f"{sample_id[:2]}/{sample_id}"


def _sync(file: Path, root: Path) -> None:
    """Makes durable the file, its entry, and its folder's entry."""
    for path in (file, file.parent, root):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
