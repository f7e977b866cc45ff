"""The drift monitor: flushes this replica's sums, leads where no other replica does, and keeps the last report.

Every `flush_s`, for each version that is served here: watch -> ledger. If this replica then leads the version:
sums, state and new audit labels -> next state and report (`transition`, `report`) -> ledger.
An error of a version is counted and retried with growing pauses (`failures`); meanwhile tallies go on counting.
Predictions never wait for any of this.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from pydantic import ValidationError

from service.drift import audit, transition
from service.drift.audit import AuditPage
from service.drift.detector_state import DetectorState
from service.drift.failures import VersionFailures
from service.drift.layout import OUTCOMES, Layout
from service.drift.ledger import Flushed, Ledger, LedgerKey, LedgerSums
from service.drift.report.decision import Terms
from service.drift.report.report import drift_report
from service.drift.watch import Watch, Watches
from service.errors import Unavailable
from service.labelling.queue.label_queue import LabelQueue
from service.schemas.drift import DriftReport
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LEASE_FLUSHES: Final = 3  # a leader that misses so many flushes is replaced
LABELS_S: Final = 2.0  # how long a flush waits for audit labels
REPORT_S: Final = 60.0  # without traffic, the time between two reports


@dataclass(frozen=True, slots=True)
class _Known:
    report: DriftReport
    behind_s: float  # its age when it was read, by the server's clock
    read_at: float  # of time.monotonic

    @property
    def aged(self) -> DriftReport:
        """The report with its present age. It does not depend on the time of day of this machine."""
        age_s = max(self.behind_s, 0.0) + time.monotonic() - self.read_at
        return self.report.model_copy(update={"age_s": age_s})


@dataclass(frozen=True, slots=True)
class _Led:
    """The leader's own copy of the state, so that it need not read it at every flush."""

    token: str
    stored: bytes  # the state in the ledger
    state: DetectorState  # the same, moved on by the time since then
    report_at: float  # of time.monotonic, when the report was written


class Monitor:
    """Counts its `flushes`, and the `errors` among them."""

    def __init__(self, watches: Watches, ledger: Ledger, labels: LabelQueue, metrics: Metrics, terms: Terms) -> None:
        self.flushes = 0
        self._watches, self._ledger, self._labels, self._metrics = watches, ledger, labels, metrics
        self._terms, self._flush_s = terms, terms.flush_s
        self._known: dict[LedgerKey, _Known] = {}
        self._led: dict[LedgerKey, _Led] = {}
        self._failures = VersionFailures(log, 2 * terms.flush_s)
        self._flushing = asyncio.Lock()

    @property
    def errors(self) -> int:
        return self._failures.of["flush"].errors

    async def run(self, live_version: Callable[[str], str | None]) -> None:
        """Flushes until it is cancelled. live_version: tells a model's live version, whose report becomes metrics."""
        while True:
            await self.flush_all(LEASE_FLUSHES * self._flush_s, self._failures.is_due)
            self._publish(live_version)
            await asyncio.sleep(self._flush_s)

    async def flush_all(self, lease_s: float, is_due: Callable[[LedgerKey], bool] = lambda _: True) -> bool:
        """Flushes every version that is due once, and evaluates those it leads. Returns whether all succeeded."""
        async with self._flushing:
            due = [watch for watch in self._watches if is_due(watch.place)]
            outcomes = await asyncio.gather(*(self._flush(watch, lease_s) for watch in due))
            self._watches.tidy()
            self._forget_others()
            return all(outcomes)

    async def close(self, timeout_s: float) -> None:
        """The last flush of a shutdown. It gives up the lead, so that another replica can take it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.flush_all(lease_s=0.0)
        if self._watches.unflushed:
            log.warning("drift: %d images were not flushed before the end and do not count", self._watches.unflushed)

    def report(self, model: str, version: str) -> DriftReport:
        """The last report, with its age. Raises Unavailable if there is none."""
        for place, known in self._known.items():
            if (place.model, place.version) == (model, version):
                return known.aged
        message = self._failures.message(model, version)
        reason = f": {message}" if message else ""
        raise Unavailable(f"there is no drift report of {model} {version} yet{reason}: retry in a few seconds")

    async def _flush(self, watch: Watch, lease_s: float) -> bool:
        try:
            flushed = await self._deliver(watch, lease_s)
            self._keep(watch.place, flushed)
            if flushed.token:
                await self._lead(watch, flushed)
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.exception("drift of %s %s", watch.place.model, watch.place.version)
            self._failures.note(watch.place, "flush", error)
            return False
        self._failures.over(watch.place, "flush")
        return True

    async def _deliver(self, watch: Watch, lease_s: float) -> Flushed:
        parcel = watch.pack()
        flushed = await self._ledger.flush(watch.place, watch.replica, parcel, lease_s)
        watch.delivered()
        self.flushes += 1
        if parcel:
            for outcome, images in zip(OUTCOMES, watch.layout.of(parcel.sums, "outcomes"), strict=True):
                self._metrics.drift_observed(watch.place.model, outcome, int(images))
        return flushed

    async def _lead(self, watch: Watch, flushed: Flushed) -> None:
        """Updates state and report. Writes the state if something came, and the report also once a minute."""
        place, sums = watch.place, await self._ledger.look(watch.place, self._terms.window_s)
        led = self._led.pop(place, None)
        if led is not None and (led.token, led.stored) != (flushed.token, sums.state):
            led = None
        state = led.state if led else await asyncio.to_thread(transition.read, watch.layout, sums)
        page = await self._audit(watch, state, flushed.born)
        after, report = await asyncio.to_thread(_update, watch.layout, self._terms, state, sums, page)
        is_news = led is None or transition.is_news(state, after)
        if led and not is_news and time.monotonic() - led.report_at < REPORT_S:
            self._led[place] = replace(led, state=after)
            return
        written = after.to_json() if is_news else b""
        if await self._ledger.write(place, flushed.token, written, report.model_dump_json().encode()):
            self._known[place] = _Known(report, 0.0, time.monotonic())
            self._led[place] = _Led(flushed.token, written or sums.state, after, time.monotonic())

    async def _audit(self, watch: Watch, state: DetectorState, born: str) -> AuditPage:
        """New audit labels. The first read begins when the totals did: no image of the version was labelled before."""
        cursor = state.cursor or (f"{born}-0" if born else "")
        if not cursor:
            return AuditPage([], "")
        try:
            async with asyncio.timeout(LABELS_S):
                page = await audit.read(self._labels, watch.layout.manifest, cursor)
        except Exception as error:  # noqa: BLE001 - labels that cannot be read must not delay the rest
            is_late = isinstance(error, TimeoutError)
            reason = TimeoutError(f"no labels in {LABELS_S:g} s") if is_late else error
            self._failures.note(watch.place, "labels", reason)
            return AuditPage([], cursor)
        self._failures.over(watch.place, "labels")
        return page

    def _keep(self, place: LedgerKey, flushed: Flushed) -> None:
        if not flushed.report:
            return
        try:
            report = DriftReport.model_validate_json(flushed.report, extra="ignore")
        except ValidationError as error:  # written by another release during a rolling update
            log.warning("a drift report of %s %s cannot be read: %s", place.model, place.version, error.errors()[0])
            return
        self._known[place] = _Known(report, flushed.now_s - report.updated_at, time.monotonic())

    def _publish(self, live_version: Callable[[str], str | None]) -> None:
        for place, known in self._known.items():
            if live_version(place.model) == place.version:
                self._metrics.drift(known.aged)

    def _forget_others(self) -> None:
        places = {watch.place for watch in self._watches}
        self._known = {place: known for place, known in self._known.items() if place in places}
        self._led = {place: led for place, led in self._led.items() if place in places}
        self._failures.forget_others(places)


def _update(
    layout: Layout, terms: Terms, state: DetectorState, sums: LedgerSums, page: AuditPage
) -> tuple[DetectorState, DriftReport]:
    """The next state and its report. A fresh state replaces one that makes this fail, because it always would."""
    try:
        after = transition.update(layout, state, sums, page)
        return after, drift_report(layout, terms, after, sums)
    except Exception:
        log.exception("drift of %s %s starts from a fresh state", layout.manifest.model, layout.manifest.version)
        after = transition.update(layout, DetectorState.fresh(layout), sums, page)
        return after, drift_report(layout, terms, after, sums)
