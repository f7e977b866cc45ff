"""Finds, verifies and reads bundles. `model.json` names the versions that are served.

The store may be a network folder that hangs. `PatientStore` asks it from a thread of its own, so that it blocks neither
the event loop nor the end of the process.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from models.contract.bundle import BundleError, read_manifest, read_onnx
from models.contract.index import ModelIndex, read_index
from models.contract.learned import versions_that_learned
from models.contract.live import LiveState, read_state
from models.contract.manifest import Manifest
from service.versions.candidates import Candidates, read_candidates

ANSWER_S = 60.0  # a store that takes longer to answer counts as away
FILES = ("manifest.json", "model.onnx")

T = TypeVar("T")
Stamp = tuple[int, int, int]  # inode, size, time of change


class StoreAway(BundleError):  # noqa: N818 - the condition is the name
    """The store does not answer. It is asked again later."""


@dataclass(frozen=True, slots=True)
class Bundle:
    manifest: Manifest
    onnx: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of a model in the store, without the content of its bundles. It differs once the model changes."""

    index: ModelIndex
    stamps: tuple[Stamp | None, ...]  # of the files of every named version; None: no such file

    @property
    def versions(self) -> list[str]:
        return _versions(self.index)


class BundleStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def models(self) -> list[str]:
        """The names of the models in the store; none when there is no store. Raises StoreAway if it cannot be read."""
        try:
            return sorted(path.parent.name for path in self.folder.glob("*/model.json"))
        except OSError as error:
            raise StoreAway(f"the bundle store {self.folder} cannot be read ({error.strerror})") from error

    def look(self, model: str) -> Seen:
        """The versions of a model to serve. Raises BundleError when there is no such model or model.json is damaged."""
        if model not in self.models():
            known = ", ".join(self.models()) or "none"
            raise BundleError(
                f"{self.folder} has no model {model!r} (models there: {known}): "
                f"set LOSSCAST_MODEL or LOSSCAST_BUNDLES, or run `losscast train {model} --out {self.folder}`"
            )
        index = read_index(self.folder / model)
        paths = [self.folder / model / version / file for version in _versions(index) for file in FILES]
        return Seen(index, tuple(map(_stamp, paths)))

    def load(self, model: str, version: str) -> Bundle:
        """One version of a model, verified. Raises BundleError when it is missing or damaged."""
        folder = self.folder / model / version
        manifest = read_manifest(folder)
        if (manifest.model, manifest.version) != (model, version):
            raise BundleError(f"{folder} is damaged: its manifest is for {manifest.model} {manifest.version}")
        return Bundle(manifest, read_onnx(folder, manifest))


class PatientStore:
    """A store for the event loop. Its calls also raise StoreAway: after ANSWER_S, and from then until it answers."""

    def __init__(self, store: BundleStore) -> None:
        self._store = store
        self._answer: Future[Any] | None = None
        self._asked_at = 0.0

    @property
    def silent_s(self) -> float:
        """For how long the store has not answered; 0 when it has no question to answer."""
        return time.monotonic() - self._asked_at if self._answer and not self._answer.done() else 0.0

    async def models(self) -> list[str]:
        return await self._ask(self._store.models)

    async def look(self, model: str) -> Seen:
        return await self._ask(lambda: self._store.look(model))

    async def load(self, model: str, version: str) -> Bundle:
        return await self._ask(lambda: self._store.load(model, version))

    async def state(self, model: str) -> LiveState:
        """What is live in the store, and the history of it. Raises BundleError when a file is damaged."""
        return await self._ask(lambda: read_state(self._store.folder / model))

    async def candidates(self, model: str) -> Candidates:
        """The candidates of a model, and those that are damaged."""
        return await self._ask(lambda: read_candidates(self._store.folder / model))

    async def learned(self, model: str) -> dict[int, list[str]]:
        """Ids of the samples that each version learned from. Raises BundleError when a list is damaged."""
        return await self._ask(lambda: versions_that_learned(self._store.folder / model))

    async def swap(self, model: str, change: Callable[[Path], T]) -> T:
        """Runs a change of model.json on the folder of a model. Raises what it raises.

        After StoreAway the change may still happen; asking for it again is safe.
        """
        return await self._ask(lambda: change(self._store.folder / model))

    async def _ask(self, question: Callable[[], T]) -> T:
        away = StoreAway(f"the bundle store {self._store.folder} does not answer: is its disk or network away?")
        if self._answer and not self._answer.done():
            raise away  # at most one thread hangs
        answer: Future[T] = Future()
        self._answer, self._asked_at = answer, time.monotonic()
        # Not a thread of an executor: the interpreter would wait for that at exit.
        Thread(target=_settle, args=(answer, question), name="bundle-store", daemon=True).start()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), ANSWER_S)
        except TimeoutError as error:
            raise away from error
        finally:
            if answer.done():
                self._answer = None  # frees the bundle, which is large


def _settle(answer: Future[T], question: Callable[[], T]) -> None:
    answer.set_running_or_notify_cancel()  # from here on it cannot be cancelled, so it is settled below
    try:
        answer.set_result(question())
    except BaseException as error:  # noqa: BLE001 - raised again by `_ask`
        answer.set_exception(error)


def _versions(index: ModelIndex) -> list[str]:
    """The named versions, the live one first."""
    named = (index.live, index.previous, index.shadow)
    return list(dict.fromkeys(str(version) for version in named if version is not None))


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
