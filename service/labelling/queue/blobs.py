"""The blob store holds the image files of samples, as they were posted, and archives of labels.

It is a folder by default, or any store that obstore supports (s3://, gs://, az://). A blob is written once and never
changed. An object store keeps every blob that it has confirmed. But obstore does not fsync local files: this module
does, many files at a time, and writes a file again that a power cut left incomplete.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from service.errors import NotFound, StartError, Unavailable

LIST_CHUNK = 1000
FSYNCS = 16  # at a time
_ID = re.compile(r"[0-9a-f]{32}")  # of an image that the queue gave no other name
_NAME = re.compile(r"(images|labels)(/[a-z0-9][a-z0-9_-]*)+(\.ndjson)?")


@dataclass(frozen=True, slots=True)
class Blob:
    name: str
    data: bytes
    content_type: str


class BlobStore:
    """Made by `BlobStore.open`. root: the folder of a local store, None for other stores."""

    def __init__(self, store: ObjectStore, root: Path | None) -> None:
        self._store = store
        self._root = root
        self._syncing = ThreadPoolExecutor(FSYNCS, thread_name_prefix="fsync")  # starts a thread only when it is needed

    @classmethod
    def open(cls, place: str | Path) -> Self:
        """place: a folder, or a URL that obstore understands; credentials come from its environment variables.

        Raises StartError for a URL that cannot be used, OSError for a folder that cannot be made.
        """
        url = urlsplit(str(place))
        if url.scheme in ("", "file"):
            root = Path(unquote(url.path) if url.scheme else place).resolve()
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(LocalStore(root), root)
        try:
            return cls(from_url(str(place)), None)
        except BaseError as error:
            raise StartError(f"LOSSCAST_BLOBS cannot be used: {_line(error)}") from error

    async def put(self, name: str, data: bytes, content_type: str) -> None:
        """Returns once the blob is safe. A blob that already exists stays. Raises Unavailable."""
        (error,) = await self.put_all([Blob(name, data, content_type)])
        if error:
            raise error

    async def put_all(self, blobs: Sequence[Blob]) -> list[Unavailable | None]:
        """As `put`, for many blobs at a time. Returns the error of each, or None."""
        if self._root is None:
            return await asyncio.gather(*map(self._put, blobs))
        return await asyncio.to_thread(self._put_local, self._root, blobs)

    async def get(self, name: str) -> bytes:
        """The blob's bytes. Raises NotFound or Unavailable."""
        if not _ID.fullmatch(name) and not _NAME.fullmatch(name):
            raise NotFound(f"no image {name}")
        try:
            reply = await obstore.get_async(self._store, _key(name))
            return bytes(await reply.bytes_async())
        except FileNotFoundError as error:
            raise NotFound(f"no image {name}") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store does not give {name}: {_line(error)}") from error

    async def delete_all(self, names: Iterable[str]) -> list[Unavailable | None]:
        """Deletes the blobs that exist. Returns the error of each, or None."""
        return await asyncio.gather(*map(self._delete, names))

    async def names(self, folder: str) -> AsyncIterator[list[str]]:
        """Names of all blobs under a folder, in chunks. Raises Unavailable."""
        try:
            async for chunk in obstore.list(self._store, prefix=folder, chunk_size=LIST_CHUNK):
                yield [str(found["path"]) for found in chunk]
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store does not list: {_line(error)}") from error

    async def _put(self, blob: Blob) -> Unavailable | None:
        attributes = {"Content-Type": blob.content_type}
        try:
            await obstore.put_async(self._store, _key(blob.name), blob.data, mode="create", attributes=attributes)
        except AlreadyExistsError:
            return None
        except (BaseError, OSError) as error:
            return _refused(blob, error)
        return None

    async def _delete(self, name: str) -> Unavailable | None:
        try:
            await obstore.delete_async(self._store, _key(name))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            return Unavailable(f"the blob store does not delete {name}: {_line(error)}")
        return None

    def _put_local(self, root: Path, blobs: Sequence[Blob]) -> list[Unavailable | None]:
        """Writes the files, then fsyncs them, then fsyncs all folders from their own up to the root."""
        outcomes = [self._write(root, blob) for blob in blobs]
        written = [blob for blob, error in zip(blobs, outcomes, strict=True) if error is None]
        try:
            self._fsync([f"{root}/{_key(blob.name)}" for blob in written])
            self._fsync(_folders(root, written))
        except OSError as error:
            return [outcome or _refused(blob, error) for blob, outcome in zip(blobs, outcomes, strict=True)]
        return outcomes

    def _write(self, root: Path, blob: Blob) -> Unavailable | None:
        try:
            obstore.put(self._store, _key(blob.name), blob.data, mode="create")
        except AlreadyExistsError:
            return self._repair(root, blob)
        except (BaseError, OSError) as error:
            return _refused(blob, error)
        return None

    def _repair(self, root: Path, blob: Blob) -> Unavailable | None:
        try:
            if (root / _key(blob.name)).read_bytes() != blob.data:
                obstore.put(self._store, _key(blob.name), blob.data, mode="overwrite")
        except (BaseError, OSError) as error:
            return _refused(blob, error)
        return None

    def _fsync(self, paths: Sequence[str]) -> None:
        """Runs fsyncs in parallel: a file system commits files together that wait at the same time."""
        shares = [paths[start::FSYNCS] for start in range(FSYNCS)]
        for done in [self._syncing.submit(_fsync, share) for share in shares if share]:
            done.result()


def _key(name: str) -> str:
    return f"{name[:2]}/{name}" if _ID.fullmatch(name) else name


def _fsync(paths: Sequence[str]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _folders(root: Path, blobs: Sequence[Blob]) -> list[str]:
    """All folders of the blobs and above them, up to the root."""
    folders = {_key(blob.name).rpartition("/")[0] for blob in blobs}
    while above := {folder.rpartition("/")[0] for folder in folders} - folders:
        folders |= above
    return [f"{root}/{folder}" for folder in folders]


def _refused(blob: Blob, error: Exception) -> Unavailable:
    return Unavailable(f"the blob store refuses {blob.name}: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
