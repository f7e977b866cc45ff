"""A version that was promoted is on probation: if it misbehaves, the service goes back to the version before it.

live version changed by a promotion -> counts of both versions -> a look whenever the images have doubled -> a complaint
-> rollback, once: it makes no promotion, so nothing is on probation after it. Each replica judges the images that it
answered itself, and whoever complains first rolls back for all of them.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from models.contract.history import Change
from models.contract.live import LiveState
from service.background import Failures
from service.drift.monitor import Monitor
from service.errors import Conflict, NotFound, Unavailable
from service.telemetry.metrics import Metrics
from service.versions.complaints import SLOW, Before, fault_complaint, flag_complaint, looks, slow_complaint
from service.versions.live_changes import MYSELF, LiveChange
from service.versions.loaded_version import LoadedVersion
from service.versions.registry import Registry

log = logging.getLogger(__name__)

# ended: another change came first; failed: it should have been rolled back, and could not.
Outcome = Literal["passed", "rolled_back", "ended", "failed"]

BEAT_S: Final = 1.0
COMPARED: Final = 15  # runs of each version, in turn, when one seems slow
MAX_TOLD: Final = 900  # letters of a reason


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a probation is. 0 seconds: there is none."""

    seconds: float = 3600.0
    images: int = 2000


@dataclass(slots=True)
class Probation:
    """Of one promotion, as this replica sees it."""

    model: str
    version: str
    before: str  # the version to go back to
    promoted_at: float  # unix seconds
    ends_at: float
    of: int  # images
    was: Before
    ahead: Iterator[int]  # numbers of images at which it looks
    next_look: int = 0
    images: int = 0  # that this replica has answered since, or failed at
    is_drift_new: bool = True  # neither of the two versions was in drift when this began
    complaint: str | None = None  # stays until the rollback succeeds

    def is_due(self) -> bool:
        """Whether it looks now. It is due once for each number of images."""
        due = False
        while self.next_look and self.images >= self.next_look:
            due, self.next_look = True, next(self.ahead, 0)
        return due


class Probations:
    """Runs in the background."""

    def __init__(self, models: Registry, drift: Monitor, metrics: Metrics, limits: Limits) -> None:
        self.failures = Failures(log)
        self._active: dict[str, Probation] = {}
        self._models, self._drift, self._metrics, self._limits = models, drift, metrics, limits
        self._known: dict[str, str | None] = {}  # model -> the live version whose promotion was looked up

    def of(self, model: str) -> Probation | None:
        """The probation of the version that is live here now."""
        found = self._active.get(model)
        return found if found and self._models.served().get(model) == found.version else None

    async def run(self) -> None:
        """Judges until cancelled. A fault of a model is noted, and tried again at the next beat."""
        while True:
            served = self._models.served()
            for model in self._active.keys() - served.keys():  # it was unloaded
                self._forget(model)
            for model, version in served.items():
                try:
                    with self.failures.noted(f"the probation of {model}"):
                        await self._step(model, version)
                except Exception as error:  # noqa: BLE001 - noted; one model must not stop the others
                    log.debug("%s", error)
            await asyncio.sleep(BEAT_S)

    async def _step(self, model: str, version: str | None) -> None:
        if version != self._known.get(model):
            self._forget(model)
            if version is not None:
                await self._begin(model, version)
            self._known[model] = version
        if (probation := self._active.get(model)) is not None:
            await self._judge(probation)

    async def _begin(self, model: str, version: str) -> None:
        """Starts a probation if a promotion made the version live, and not too long ago."""
        state = await self._models.state(model)
        change = promotion_of(state, version)
        if change is None or change.before is None:
            return
        promoted_at = datetime.fromisoformat(change.at).timestamp()
        ends_at = promoted_at + self._limits.seconds
        if time.time() >= ends_at:
            return
        before, ahead = str(change.before), iter(looks(self._limits.images))
        other = self._loaded(model, before)
        self._models.loaded(model, version).predictor.conduct.restart()  # it may have been live before
        self._active[model] = Probation(
            model=model,
            version=version,
            before=before,
            promoted_at=promoted_at,
            ends_at=ends_at,
            of=self._limits.images,
            was=Before() if other is None else Before.of(other.predictor.conduct),
            ahead=ahead,
            next_look=next(ahead),
            is_drift_new=not (self._is_in_drift(model, before) or self._is_in_drift(model, version)),
        )
        self._metrics.on_probation(model, is_on=True)
        log.info("%s: version %s is on probation for %.0f s", model, version, ends_at - time.time())

    async def _judge(self, probation: Probation) -> None:
        loaded = self._models.loaded(probation.model, probation.version)
        probation.images = loaded.predictor.conduct.images
        if probation.complaint is None and probation.is_due():
            probation.complaint = await self._complaint(probation, loaded)
        if probation.complaint is None and probation.is_drift_new:
            probation.complaint = self._drift_complaint(probation)
        if probation.complaint is not None:
            await self._roll_back(probation, probation.complaint)
        elif probation.images >= probation.of or time.time() >= probation.ends_at:
            log.info("%s: version %s has passed its probation", probation.model, probation.version)
            self._end(probation, "passed")

    async def _complaint(self, probation: Probation, loaded: LoadedVersion) -> str | None:
        predictor, count = loaded.predictor, len(looks(probation.of))
        conduct, point = predictor.conduct, predictor.manifest.operating_points[predictor.operating_point]
        level = point.level if point.kind == "flag_budget" else None
        found = fault_complaint(conduct, probation.was, count)
        found = found or flag_complaint(conduct, probation.was, level, count)
        if found is None and (slow := slow_complaint(conduct, probation.was, count)) is not None:
            ratio = await self._times_slower(probation, loaded)
            found = f"{slow}; side by side it takes {ratio:.1f} times as long" if ratio > SLOW else None
        return found

    async def _times_slower(self, probation: Probation, loaded: LoadedVersion) -> float:
        """1 if the version before is not loaded: then nothing can be said."""
        other = self._loaded(probation.model, probation.before)
        if other is None:
            return 1.0
        with loaded.hold(), other.hold():
            return await asyncio.to_thread(times_slower, loaded, other)

    def _drift_complaint(self, probation: Probation) -> str | None:
        if not self._is_in_drift(probation.model, probation.version):
            return None
        return "its traffic left its own reference, and the version before was not in drift"

    def _is_in_drift(self, model: str, version: str) -> bool:
        try:
            return self._drift.report(model, version).state == "drift"
        except Unavailable:
            return False

    async def _roll_back(self, probation: Probation, complaint: str) -> None:
        """Raises Unavailable while the store is away or cannot be written: the next beat tries again."""
        reason = f"version {probation.version} misbehaves on probation: {complaint}"
        change = LiveChange("rolled_back", int(probation.before), int(probation.version), MYSELF, reason[:MAX_TOLD])
        try:
            swap = await self._models.change_live(probation.model, change)
        except (Conflict, NotFound) as error:
            is_moved = self._models.live_version(probation.model) != probation.version
            log.error("%s: %s, but it was not rolled back: %s", probation.model, reason, error)  # noqa: TRY400 - one line
            self._end(probation, "ended" if is_moved else "failed")
            return
        if swap.is_change:  # else another replica was faster
            log.error("%s: rolled back to version %s: %s", probation.model, probation.before, reason)
        self._end(probation, "rolled_back" if swap.is_change else "ended")

    def _loaded(self, model: str, version: str) -> LoadedVersion | None:
        try:
            return self._models.loaded(model, version)
        except (NotFound, Unavailable):
            return None

    def _forget(self, model: str) -> None:
        self._known.pop(model, None)
        if model in self._active:
            self._end(self._active[model], "ended")

    def _end(self, probation: Probation, outcome: Outcome) -> None:
        self._active.pop(probation.model, None)
        self._metrics.on_probation(probation.model, is_on=False)
        self._metrics.probation_ended(probation.model, outcome)


def promotion_of(state: LiveState, version: str) -> Change | None:
    """The promotion that made the version live; None if something else did."""
    last = state.changes[-1] if state.changes else None
    return last if last and last.event == "promoted" and str(last.version) == version else None


def times_slower(one: LoadedVersion, other: LoadedVersion) -> float:
    """The median of the time of one version over that of the other, run in turn."""
    ratios = []
    for _ in range(COMPARED):
        first, second = one.time_run_s(), other.time_run_s()
        ratios.append(first / second)
    return statistics.median(ratios)
