"""The refiner: a process that refines a model whenever labels, time or drift say so.

look at the service -> a reason? -> `losscast refine` in a process of its own -> what its gates said -> promotion, if it
was told to -> pause. One refinement runs at a time over all hosts (`models.refinement.service_lock`). The live version
is never touched otherwise.
"""

import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from models.contract.bundle import BundleError
from models.contract.candidates import FOLDER, CandidateRecord, list_candidates
from models.contract.index import read_index
from models.refinement.by_itself.memory import Memory
from models.refinement.by_itself.metrics import RefinerMetrics, Result
from models.refinement.by_itself.triggers import Seen, Wanted, reason_to_refine
from models.refinement.config import BUSY, RefinementError
from models.refinement.service_api import ServiceApi, ServiceAway

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 6 * 3600.0  # after a refinement that failed; it doubles each time
END_S: Final = 30.0  # that a refinement gets to end when the refiner is stopped


@dataclass(frozen=True, slots=True)
class Orders:
    """What the refiner is told. command: `losscast refine` with its options."""

    model: str
    store: Path
    command: Sequence[str]
    wanted: Wanted
    poll_s: float
    promotes: bool  # a candidate whose gates passed
    who: str

    @property
    def folder(self) -> Path:
        return self.store / self.model

    @property
    def candidates(self) -> Path:
        return self.folder / FOLDER


class Refiner:
    def __init__(self, orders: Orders, api: ServiceApi, metrics: RefinerMetrics) -> None:
        self._orders, self._api, self._metrics = orders, api, metrics
        self._stopping = threading.Event()
        self._pause_s = 0.0  # that a failure asks for
        self._refused = set[str]()  # candidates that the service did not make live

    def stop(self) -> None:
        """Lets `run` return soon. A refinement that runs is ended; the next one goes on with its candidate."""
        self._stopping.set()

    def run(self) -> None:
        """Until `stop`. What fails is logged and counted, and tried again later."""
        while not self._stopping.is_set():
            try:
                self.step()
            except (RefinementError, BundleError, OSError) as error:
                self._metrics.errors.inc()
                log.warning("the refiner will try again: %s", " ".join(str(error).split()))
            self._stopping.wait(max(self._orders.poll_s, self._pause_s))

    def step(self) -> Result | None:
        """Looks once, and refines if there is a reason. Raises RefinementError, BundleError and OSError."""
        orders, metrics = self._orders, self._metrics
        self._promote()
        labelled, known = self._api.labelled(orders.model), Memory.read(orders.candidates)
        new = known.new_labels(labelled)
        metrics.new_labels.set(new)
        seen = Seen(new, known.hours(time.time()), self._api.is_in_drift(orders.model))
        if (reason := reason_to_refine(seen, orders.wanted)) is None:
            return None
        log.info("%s: a refinement begins: %s", orders.model, reason)
        result = self._refine()
        self._follow(result, Memory(labelled=labelled, at=time.time()))
        return result

    def _refine(self) -> Result:
        """Runs it, in a process of its own: whatever becomes of it, the refiner lives."""
        metrics, began = self._metrics, time.time()
        metrics.running.set(1)
        try:
            status = self._run_command()
        finally:
            metrics.running.set(0)
            metrics.run_seconds.set(time.time() - began)
            metrics.last_run.set(time.time())
        if status:
            return "busy" if status == BUSY else "failed"
        return "passed" if self._newest().passed else "refused"

    def _run_command(self) -> int:
        with subprocess.Popen(self._orders.command) as process:  # noqa: S603 - our own command
            while process.poll() is None:
                if self._stopping.wait(0.2):
                    process.terminate()
                    try:
                        return process.wait(END_S)
                    except subprocess.TimeoutExpired:
                        process.kill()
            return process.returncode

    def _follow(self, result: Result, now: Memory) -> None:
        if self._stopping.is_set():  # it was ended, so it says nothing
            return
        self._metrics.runs[result].inc()
        log.info("%s: the refinement ended: %s", self._orders.model, result)
        self._pause_s = 0.0 if result != "failed" else min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        if result in {"passed", "refused"}:  # the same labels give the same answer
            now.keep(self._orders.candidates)
            self._metrics.new_labels.set(0)
        self._promote()

    def _promote(self) -> None:
        """Makes the refiner's own candidate live that waits, if it was told to; else it shows that one waits."""
        orders, waiting = self._orders, self._waiting()
        if waiting is not None and orders.promotes and waiting.who == orders.who and waiting.id not in self._refused:
            waiting = None if self._is_promoted(waiting) else waiting
        since = 0.0 if waiting is None else datetime.fromisoformat(waiting.changed_at).timestamp()
        self._metrics.waiting_since.set(since)

    def _is_promoted(self, candidate: CandidateRecord) -> bool:
        """A refusal is not asked for again: each try to load a version that does not work leaves lines in the history.

        Raises ServiceAway: then it is tried again.
        """
        orders = self._orders
        try:
            self._api.promote(orders.model, candidate.id, candidate.parent, orders.who, "its gates passed")
        except ServiceAway:
            raise
        except RefinementError as error:
            self._refused.add(candidate.id)
            self._metrics.errors.inc()
            log.warning("%s: %s passed and was not made live: %s", orders.model, candidate.id, error)
            return False
        log.info("%s: %s is live", orders.model, candidate.id)
        return True

    def _waiting(self) -> CandidateRecord | None:
        """The newest candidate, if it passed against the version that is live and was not promoted."""
        records = list_candidates(self._orders.folder)
        newest = records[-1] if records else None
        if newest is None or newest.state != "gated" or not newest.passed:
            return None
        return newest if newest.parent == read_index(self._orders.folder).live else None

    def _newest(self) -> CandidateRecord:
        """Raises RefinementError when there is none."""
        records = list_candidates(self._orders.folder)
        if not records:
            raise RefinementError(f"the refinement left no candidate in {self._orders.candidates}")
        return records[-1]
