"""One model: every version that its `model.json` names is loaded, and one of them is live.

model.json changed -> the live version opened, then made live -> the other versions in it opened -> versions that it no
longer names retired. A version that cannot be opened changes nothing about those that are served.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from models.contract.manifest import Manifest
from service.errors import Conflict, NotFound, Unavailable
from service.telemetry.metrics import Metrics
from service.versions.bundle_store import Bundle, PatientStore, Seen, StoreAway
from service.versions.loaded_version import LoadedVersion

log = logging.getLogger(__name__)

VersionState = Literal["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]  # Triton's words
INDEX = ""  # in the place of a version, when model.json itself is at fault


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version of a model in the repository's index. `version` is empty where model.json cannot be read."""

    name: str
    version: str
    state: VersionState
    reason: str = ""


class ServedModel:
    """Only one caller at a time may change it; any number may read it at any time."""

    def __init__(
        self,
        name: str,
        store: PatientStore,
        open_version: Callable[[Bundle], Awaitable[LoadedVersion]],
        metrics: Metrics,
        on_move: Callable[[], object],
    ) -> None:
        """on_move: called when another version goes live, or none."""
        self.name = name
        self.versions: dict[str, LoadedVersion] = {}
        self.live: str | None = None
        self.manifest: Manifest | None = None  # of the version that is live, or was live last
        self.is_wanted = True  # until it is unloaded
        self._store, self._open_version, self._metrics, self._on_move = store, open_version, metrics, on_move
        self._seen: Seen | None = None
        self._loading: str | None = None  # the version that is being opened
        self._failed: dict[str, str] = {}  # version -> why it could not be opened
        self._retiring: dict[asyncio.Task[None], LoadedVersion] = {}

    def loaded(self, version: str | None = None) -> LoadedVersion:
        """A version, the live one when left out. Raises NotFound, and Unavailable for one that is not loaded yet."""
        loaded = self.versions.get(version if version is not None else self.live or "")
        if loaded is None:
            raise self._why_not(version)
        return loaded

    def states(self) -> list[VersionEntry]:
        states = dict[str, tuple[VersionState, str]]()
        states |= {old.predictor.manifest.version: ("UNLOADING", "") for old in self._retiring.values()}
        states |= {version: ("UNAVAILABLE", reason) for version, reason in self._failed.items()}
        states |= dict.fromkeys(self.versions, ("READY", ""))
        if self._loading is not None:
            states[self._loading] = ("LOADING", "")
        if not self.is_wanted and self._seen:
            states = dict.fromkeys(self._seen.versions, ("UNAVAILABLE", "unloaded")) | states
        return [VersionEntry(self.name, version, *state) for version, state in sorted(states.items(), key=_by_number)]

    async def follow(self, *, is_strict: bool = False) -> None:
        """Serves the versions that the store names, if they changed since the last try. Raises StoreAway.

        Other faults are counted and logged, and the versions without a fault are served. is_strict: a fault of the
        live version is not logged but raised, at the end.
        """
        try:
            await self._follow(is_strict=is_strict)
        finally:
            self._metrics.versions_failed(self.name, len(self._failed))

    async def _follow(self, *, is_strict: bool) -> None:
        try:
            seen = await self._store.look(self.name)
        except StoreAway:
            raise
        except Exception as error:
            self._note(INDEX, error, is_raised=is_strict)
            if is_strict:
                raise
            return
        self._failed.pop(INDEX, None)
        if seen != self._seen:
            self._seen = seen
            await self._adopt(seen, is_strict=is_strict)

    async def load(self) -> None:
        """Tries everything again. Raises StoreAway, and Conflict when the live version fails: the old one stays."""
        self.is_wanted = True
        self._seen = None
        try:
            await self.follow(is_strict=True)
        except StoreAway:
            raise
        except Exception as error:
            raise Conflict(f"{self.name} was not loaded: {_one_line(error)}{self._kept}") from error

    def unload(self) -> None:
        """Closes every version once its users have let go. Polling does not load them again, `load` does."""
        self.is_wanted = False
        self.live = None
        self._failed.clear()
        self._retire_all_but([])
        self._metrics.live(self.name, None)
        self._on_move()
        self._metrics.versions_failed(self.name, 0)

    async def close(self) -> None:
        """Closes all versions at once."""
        self._retire_all_but([])
        for version in self._retiring.values():
            version.abandon()
        await asyncio.gather(*self._retiring)

    async def _adopt(self, seen: Seen, *, is_strict: bool) -> None:
        self._failed.clear()
        self._retire_all_but([*seen.versions, self.live])  # first, because each version takes memory
        live, *others = seen.versions
        fault = await self._open(live, is_raised=is_strict)
        if fault is None:
            self._go_live(live)
        for version in others:
            await self._open(version, is_raised=False)
        self._retire_all_but([*seen.versions, self.live])
        if fault and is_strict:
            raise fault

    async def _open(self, version: str, *, is_raised: bool) -> Exception | None:
        """Returns the fault, if there is one. Raises StoreAway."""
        if version in self.versions:
            return None
        self._loading = version
        try:
            self.versions[version] = await self._open_version(await self._store.load(self.name, version))
        except StoreAway:
            self._seen = None  # so that the next look tries this version
            raise
        except Exception as error:  # noqa: BLE001 - a bundle may be wrong in any way; the others are served on
            self._note(version, error, is_raised=is_raised)
            return error
        finally:
            self._loading = None
        return None

    def _go_live(self, version: str) -> None:
        if version != self.live:
            log.info("%s: version %s is live%s", self.name, version, f", {self.live} was" if self.live else "")
            self._metrics.live(self.name, version)
        if version != self.live:
            self._on_move()
        self.live = version
        self.manifest = self.versions[version].predictor.manifest

    def _retire_all_but(self, versions: Sequence[str | None]) -> None:
        for version in [version for version in self.versions if version not in versions]:
            old = self.versions.pop(version)
            retiring = asyncio.create_task(old.retire(), name=f"retire-{self.name}-{version}")
            self._retiring[retiring] = old
            retiring.add_done_callback(self._retiring.pop)

    def _note(self, version: str, error: Exception, *, is_raised: bool) -> None:
        """Counts and logs a fault, once for each new reason. is_raised: it is not logged, because a caller gets it."""
        reason = _one_line(error)
        if self._failed.get(version) != reason:
            self._metrics.load_failed(self.name)
            if not is_raised:
                log.error("%s %s was not loaded: %s%s", self.name, version or "model.json", reason, self._kept)
        self._failed[version] = reason

    @property
    def _kept(self) -> str:
        return f"; version {self.live} is still served" if self.live else ""

    def _why_not(self, version: str | None) -> NotFound | Unavailable:
        if not self.is_wanted:
            return NotFound(f"{self.name} was unloaded: load it by POST /v2/repository/models/{self.name}/load")
        if self._loading is not None and version in {None, self._loading}:
            return Unavailable(f"{self.name} is loading version {self._loading}: retry in a few seconds")
        reasons = [reason for failed, reason in self._failed.items() if version in {None, failed}]
        if reasons:
            return Unavailable(f"{self.name} was not loaded: {'; '.join(reasons)}")
        if version is None:
            return Unavailable(f"{self.name} is not loaded yet: retry in a few seconds")
        return NotFound(f"there is no version {version!r} of {self.name}: {', '.join(self.versions)} are served")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _by_number(item: tuple[str, object]) -> tuple[int, str]:
    return int(item[0] or 0), item[0]
