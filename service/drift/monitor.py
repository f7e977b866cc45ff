"""The drift monitor: flushes what this replica saw, judges what all replicas saw when it leads, keeps the last report.

Every `flush_s`, for each version that is served here: watch -> ledger; and if that made us its leader: sums, state
and new audit labels -> judge -> ledger. Whatever goes wrong is counted and tried again, ever more rarely while it does;
tallies add up meanwhile. Predictions never wait for any of it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from service.drift import audit, judge
from service.drift.audit import AuditPage
from service.drift.judge import Terms
from service.drift.layout import OUTCOMES, Layout
from service.drift.ledger import Flushed, Ledger, Place, Sums
from service.drift.reporting import report as report_of
from service.drift.state import State
from service.drift.watch import Watch, Watches
from service.errors import Unavailable
from service.labelling.queue import LabelQueue
from service.metrics import Metrics
from service.schemas_drift import DriftReport

log = logging.getLogger(__name__)

LEASE_FLUSHES: Final = 3  # a leader that misses so many is replaced
BACKOFF_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    report: DriftReport
    behind_s: float  # by the server's clock, when it was read
    read_at: float  # of time.monotonic

    @property
    def aged(self) -> DriftReport:
        """The report with its age by now, whatever our clock says."""
        age_s = max(self.behind_s, 0.0) + time.monotonic() - self.read_at
        return self.report.model_copy(update={"age_s": age_s})


class Monitor:
    """Counters for whoever watches: `flushes`, `errors`, `last_error` in words."""

    def __init__(self, watches: Watches, ledger: Ledger, labels: LabelQueue, metrics: Metrics, terms: Terms) -> None:
        self.flushes = 0
        self.errors = 0
        self.last_error: str | None = None
        self._watches, self._ledger, self._labels, self._metrics = watches, ledger, labels, metrics
        self._terms, self._flush_s = terms, terms.flush_s
        self._known: dict[Place, _Known] = {}
        self._flushing = asyncio.Lock()

    async def run(self, live_version: Callable[[str], str | None]) -> None:
        """Works until cancelled. live_version: of a model, whose report becomes metrics."""
        failures = 0
        while True:
            is_fine = await self.flush_all(LEASE_FLUSHES * self._flush_s)
            failures = 0 if is_fine else failures + 1
            self._publish(live_version)
            await asyncio.sleep(max(self._flush_s, min(self._flush_s * 2 ** min(failures - 1, 10), BACKOFF_MAX_S)))

    async def flush_all(self, lease_s: float) -> bool:
        """Flushes every version once, and judges those it leads. Whether nothing went wrong."""
        async with self._flushing:
            outcomes = await asyncio.gather(*(self._flush(watch, lease_s) for watch in self._watches))
            self._watches.tidy()
            self._forget_others()
            return all(outcomes)

    async def close(self, timeout_s: float) -> None:
        """The last flush, for a shutdown; another replica may lead from then on."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.flush_all(lease_s=0.0)
        except TimeoutError:
            log.warning(
                "drift: %d images were not flushed in %g s and do not count", self._watches.unflushed, timeout_s
            )

    def report(self, model: str, version: str) -> DriftReport:
        """The last one there is, with its age. Raises Unavailable when there is none."""
        for place, known in self._known.items():
            if (place.model, place.version) == (model, version):
                return known.aged
        reason = f": {self.last_error}" if self.last_error else ""
        raise Unavailable(f"there is no drift report of {model} {version} yet{reason}: retry in a few seconds")

    async def _flush(self, watch: Watch, lease_s: float) -> bool:
        try:
            flushed = await self._deliver(watch, lease_s)
            self._keep(watch.place, flushed)
            if flushed.token:
                await self._judge(watch, flushed)
        except Unavailable as error:
            self._note(watch, error)
            return False
        except Exception as error:
            log.exception("drift of %s %s", watch.place.model, watch.place.version)
            self._note(watch, error)
            return False
        self.last_error = None
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

    async def _judge(self, watch: Watch, flushed: Flushed) -> None:
        sums = await self._ledger.look(watch.place, self._terms.window_s)
        state = await asyncio.to_thread(judge.read, watch.layout, sums)
        page = await self._audit(watch, state, flushed.born)
        after, report = await asyncio.to_thread(_judged, watch.layout, self._terms, state, sums, page)
        if await self._ledger.write(watch.place, flushed.token, after, report.model_dump_json().encode()):
            self._known[watch.place] = _Known(report, 0.0, time.monotonic())

    async def _audit(self, watch: Watch, state: State, born: str) -> AuditPage:
        """New labels. No image of a version was labelled before the first was flushed."""
        cursor = state.cursor or (f"{born}-0" if born else "")
        if not cursor:
            return AuditPage([], "")
        try:
            return await audit.read(self._labels, watch.layout.manifest, cursor)
        except Exception as error:  # noqa: BLE001 - labels that cannot be read hold up nothing else
            self._note(watch, error)
            return AuditPage([], cursor)

    def _keep(self, place: Place, flushed: Flushed) -> None:
        if not flushed.report:
            return
        try:
            report = DriftReport.model_validate_json(flushed.report, extra="ignore")
        except ValidationError as error:  # of a replica of another build; ours comes when we lead
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

    def _note(self, watch: Watch, error: Exception) -> None:
        self.errors += 1
        line = " ".join(str(error).split()) or type(error).__name__
        if line != self.last_error:
            log.warning("drift of %s %s: %s; tried again", watch.place.model, watch.place.version, line)
        self.last_error = line


def _judged(layout: Layout, terms: Terms, state: State, sums: Sums, page: AuditPage) -> tuple[bytes, DriftReport]:
    """JSON of the state after it, and the report."""
    after = judge.update(layout, state, sums, page)
    return after.to_json(), report_of(layout, terms, after, sums)
