"""The blob store: the image files of samples, as posted, and archives of labels.

A folder by default, or any store that obstore speaks to (s3://, gs://, az://). A blob is written once
and never changed. An object store keeps what it has confirmed; a local file that obstore wrote is not
fsynced, so that is done here, and a file that a power cut left torn is written anew.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from service.errors import NotFound, Unavailable

_IMAGE = re.compile(r"[0-9a-f]{32}(-[0-9]+)?", re.ASCII)
_ARCHIVE = re.compile(r"labels/[a-z0-9_-]+/[0-9a-z_-]+\.ndjson", re.ASCII)


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

    async def put(self, name: str, data: bytes, content_type: str) -> None:
        """Returns once the blob is safe. One that is there already stays. Raises Unavailable."""
        key = _key(name)
        try:
            if self._root:
                await self._put_local(self._root, key, data)
            else:
                await self._create(key, data, {"Content-Type": content_type})
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store refuses {name}: {_line(error)}") from error

    async def get(self, name: str) -> bytes:
        """The blob's bytes. Raises NotFound or Unavailable."""
        if not _IMAGE.fullmatch(name) and not _ARCHIVE.fullmatch(name):
            raise NotFound(f"no image {name}")
        try:
            reply = await obstore.get_async(self._store, _key(name))
            return bytes(await reply.bytes_async())
        except FileNotFoundError as error:
            raise NotFound(f"no image {name}") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store does not give {name}: {_line(error)}") from error

    async def delete(self, names: Sequence[str]) -> None:
        """Deletes what is there of them. Raises Unavailable."""
        try:
            for name in names:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, _key(name))
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store does not delete: {_line(error)}") from error

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


def _key(name: str) -> str:
    return name if _ARCHIVE.fullmatch(name) else f"{name[:2]}/{name}"


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
