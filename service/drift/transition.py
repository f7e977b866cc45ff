"""State and sums -> the next state: the leader does this at every flush. Pure.

new = totals - totals counted so far -> detector, and a history of the day.
The server may have lost data. Totals that started again then count from zero; totals that went back count from their
present value.
"""

from dataclasses import replace

import numpy as np

from service.drift.audit import AuditPage
from service.drift.detector_state import DetectorState
from service.drift.layout import Floats, Layout
from service.drift.ledger import LedgerSums
from service.drift.statistics.detector import HOUR_S, Flush
from service.drift.statistics.evidence import PERIOD_S


def read(layout: Layout, sums: LedgerSums) -> DetectorState:
    """The state to continue: a fresh one if there is none, or none that this release understands."""
    try:
        state = DetectorState.from_json(sums.state)
    except ValueError:
        return DetectorState.fresh(layout)
    return state if state.fits(layout) else DetectorState.fresh(layout)


def update(layout: Layout, state: DetectorState, sums: LedgerSums, page: AuditPage) -> DetectorState:
    """The state after one look at the ledger. page: audit labels that were not counted before."""
    new = _since(layout, state, sums)
    flush = {
        name: Flush(layout.of(new, f"counts:{name}"), layout.of(new, f"dependence:{name}")) for name in layout.signals
    }
    now_s = max(sums.now_s, state.detector.updated_s)  # after a failover the clock of the server may be behind
    before = _in_period(layout, state, now_s)
    detector = before.detector.update(layout.bins, flush, now_s, sums.replicas)
    after = _remember(before, new[: layout.remembered], now_s)
    return replace(
        after,
        born=sums.born,
        totals=sums.totals if sums.totals.size else layout.empty(),
        detector=detector,
        peaks={name: max(peak, float(detector.signals[name].evidence.log10)) for name, peak in before.peaks.items()},
        audit=state.audit.add(page.losses, now_s),
        cursor=page.cursor,
    )


def is_news(before: DetectorState, after: DetectorState) -> bool:
    """Whether the state must be written: something came, or an hour ended. The mere passing of time need not be."""
    is_same = before.born == after.born and before.cursor == after.cursor
    hours = {one.detector.updated_s // HOUR_S for one in (before, after)}
    return not is_same or len(hours) > 1 or not np.array_equal(before.totals, after.totals)


def _in_period(layout: Layout, state: DetectorState, now_s: float) -> DetectorState:
    """Evidence restarts at 0:00 UTC. The detector does so by itself; this restarts the history and the peaks."""
    if now_s // PERIOD_S == state.detector.updated_s // PERIOD_S:
        return state
    fresh = DetectorState.fresh(layout)
    return replace(state, peaks=fresh.peaks, seen=fresh.seen, history=fresh.history)


def _remember(state: DetectorState, new: Floats, now_s: float) -> DetectorState:
    if not new.any():
        return state
    began_s = max(state.detector.updated_s or now_s, now_s // PERIOD_S * PERIOD_S)
    return replace(state, seen=state.seen + new, history=state.history.add(began_s, state.seen))


def _since(layout: Layout, state: DetectorState, sums: LedgerSums) -> Floats:
    """The totals minus those counted so far. Zero if the totals are smaller, because then the server lost some."""
    if not sums.totals.size:
        return layout.empty()
    if sums.born != state.born:
        return sums.totals
    new = sums.totals - state.totals
    is_less = any((layout.of(new, f"counts:{name}") < 0).any() for name in layout.signals)
    return layout.empty() if is_less else new
