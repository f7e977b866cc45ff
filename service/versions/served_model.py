"""One model: a line for every version that its `model.json` names, and one of them live.

store looked at -> changed? -> live version opened, then flipped -> the other named versions opened -> what is
not named any more retired. Whatever fails to open leaves what is served as it is.
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
from service.versions.loaded_version import Line

log = logging.getLogger(__name__)

State = Literal["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]  # Triton's words
INDEX = ""  # stands for the version where model.json itself is at fault


@dataclass(frozen=True, slots=True)
class ModelState:
    """One version of a model. `version` is empty where model.json cannot be read."""

    name: str
    version: str
    state: State
    reason: str = ""


class ServedModel:
    """Not to be called from two tasks at once, but for `line` and what only reads."""

    def __init__(
        self, name: str, store: PatientStore, open_line: Callable[[Bundle], Awaitable[Line]], metrics: Metrics
    ) -> None:
        self.name = name
        self.lines: dict[str, Line] = {}  # by version
        self.live: str | None = None
        self.manifest: Manifest | None = None  # of the last live version, also when none is served any more
        self.is_wanted = True  # until it is unloaded
        self._store, self._open_line, self._metrics = store, open_line, metrics
        self._seen: Seen | None = None
        self._loading: str | None = None  # the version that is being opened
        self._failed: dict[str, str] = {}  # version -> why it could not be opened
        self._retiring: dict[asyncio.Task[None], Line] = {}

    def line(self, version: str | None = None) -> Line:
        """The line of a version, of the live one when left out. Raises NotFound; Unavailable for one not loaded yet."""
        line = self.lines.get(version if version is not None else self.live or "")
        if line is None:
            raise self._why_not(version)
        return line

    def states(self) -> list[ModelState]:
        states = dict[str, tuple[State, str]]()
        states |= {line.predictor.manifest.version: ("UNLOADING", "") for line in self._retiring.values()}
        states |= {version: ("UNAVAILABLE", reason) for version, reason in self._failed.items()}
        states |= dict.fromkeys(self.lines, ("READY", ""))
        if self._loading is not None:
            states[self._loading] = ("LOADING", "")
        if not self.is_wanted and self._seen:
            states = dict.fromkeys(self._seen.versions, ("UNAVAILABLE", "unloaded")) | states
        return [ModelState(self.name, version, *state) for version, state in sorted(states.items(), key=_by_number)]

    async def follow(self, *, is_strict: bool = False) -> None:
        """Serves what the store names, if that changed since it was last tried. Raises StoreAway.

        What is wrong there is counted and logged, and the rest goes on. is_strict: what is wrong with the live
        version is not logged but raised, once the rest is done.
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
        """Tries everything again. Raises StoreAway; Conflict when the live version cannot be had, and keeps the old."""
        self.is_wanted = True
        self._seen = None
        try:
            await self.follow(is_strict=True)
        except StoreAway:
            raise
        except Exception as error:
            raise Conflict(f"{self.name} was not loaded: {_line(error)}{self._kept}") from error

    def unload(self) -> None:
        """Closes every line once its users have let go. Polling does not undo it, `load` does."""
        self.is_wanted = False
        self.live = None
        self._failed.clear()
        self._retire_all_but([])
        self._metrics.live(self.name, None)
        self._metrics.versions_failed(self.name, 0)

    async def close(self) -> None:
        """Ends all lines at once."""
        self._retire_all_but([])
        for line in self._retiring.values():
            line.abandon()
        await asyncio.gather(*self._retiring)

    async def _adopt(self, seen: Seen, *, is_strict: bool) -> None:
        self._failed.clear()
        self._retire_all_but([*seen.versions, self.live])  # before there are more: memory
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
        """What went wrong, if anything did. Raises StoreAway."""
        if version in self.lines:
            return None
        self._loading = version
        try:
            self.lines[version] = await self._open_line(await self._store.load(self.name, version))
        except StoreAway:
            self._seen = None  # nothing is known of the version yet
            raise
        except Exception as error:  # noqa: BLE001 - a bundle may be wrong in any way; what is served goes on
            self._note(version, error, is_raised=is_raised)
            return error
        finally:
            self._loading = None
        return None

    def _go_live(self, version: str) -> None:
        if version != self.live:
            log.info("%s: version %s is live%s", self.name, version, f", {self.live} was" if self.live else "")
            self._metrics.live(self.name, version)
        self.live = version
        self.manifest = self.lines[version].predictor.manifest

    def _retire_all_but(self, versions: Sequence[str | None]) -> None:
        for version in [version for version in self.lines if version not in versions]:
            line = self.lines.pop(version)
            task = asyncio.create_task(line.retire(), name=f"retire-{self.name}-{version}")
            self._retiring[task] = line
            task.add_done_callback(self._retiring.pop)

    def _note(self, version: str, error: Exception, *, is_raised: bool) -> None:
        """Counted, and logged unless somebody is told, once for each new reason."""
        reason = _line(error)
        if self._failed.get(version) != reason:
            self._metrics.load_failed(self.name)
            if not is_raised:
                log.error("%s %s was not loaded: %s%s", self.name, version or "model.json", reason, self._kept)
        self._failed[version] = reason

    @property
    def _kept(self) -> str:
        return f"; version {self.live} is served on" if self.live else ""

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
        return NotFound(f"there is no version {version!r} of {self.name}: {', '.join(self.lines)} are served")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _by_number(item: tuple[str, object]) -> tuple[int, str]:
    return int(item[0] or 0), item[0]
