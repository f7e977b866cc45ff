"""State and sums -> state and report: the leader's work at every flush, pure but for what it is given.

new = totals - those judged so far -> evidence, dependence and rhythm of each signal -> report over the window.
A server that lost data is met by what can be known: totals that began anew count from nothing, totals that went
back count from where they are.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from service.drift import dependence, evidence, rhythm
from service.drift.audit import AuditPage
from service.drift.bins import Bins
from service.drift.effect import AuditSums
from service.drift.evidence import PERIOD_S
from service.drift.layout import Floats, Layout
from service.drift.ledger import Sums
from service.drift.state import SignalState, State

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say of drift."""

    threshold: float = 100.0  # evidence that counts
    loss_rise: float = 0.1  # of the mean loss, relative to the reference, for a page
    window_s: float = 3600.0  # that reports speak of
    flush_s: float = 5.0  # between two flushes


def read(layout: Layout, sums: Sums) -> State:
    """The state to go on from: a fresh one where there is none, or none that this build understands."""
    try:
        state = State.from_json(sums.state)
    except ValueError:
        return State.fresh(layout, sums.born, sums.now_s)
    if set(state.signals) != set(layout.signals) or state.totals.size != layout.size:
        return State.fresh(layout, sums.born, sums.now_s)
    return state


def update(layout: Layout, state: State, sums: Sums, page: AuditPage) -> State:
    """After one look at the ledger. page: audit labels that were not counted before."""
    new = _since(layout, state, sums)
    audit = sum((AuditSums.of(one.true, one.predicted, one.probability) for one in page.losses), state.audit)
    state = _in_period(layout, state, sums.now_s)
    seen = {name: layout.of(new, f"counts:{name}") for name in layout.signals}
    if any(counts.any() for counts in seen.values()):
        share = max(sums.now_s - state.judged_s, 0.0) / PERIOD_S
        hour = int(sums.now_s % PERIOD_S // HOUR_S)
        at = Moment(state.looked_s, share, hour, sums.replicas)
        signals = {
            name: _signal(signal, layout.bins[name], seen[name], layout.of(new, f"dependence:{name}"), at)
            for name, signal in state.signals.items()
        }
        now = evidence.average(np.array([float(signal.evidence.log10) for signal in signals.values()]))
        state = replace(state, signals=signals, peak=max(state.peak, now), judged_s=sums.now_s)
    totals = sums.totals if sums.totals.size else layout.empty()
    return replace(state, born=sums.born, totals=totals, looked_s=sums.now_s, audit=audit, cursor=page.cursor)


@dataclass(frozen=True, slots=True)
class Moment:
    began_s: float  # unix seconds at which the flush's time began
    share: float  # of the period, that it covers
    hour: int
    replicas: float


def design_effect(signal: SignalState, bins: Bins, replicas: float) -> float:
    """Within blocks or between the hours of a day, whichever is larger: the latter has the former in it."""
    return max(
        float(dependence.design_effect(signal.dependence, bins, replicas)), float(rhythm.design_effect(signal.rhythm))
    )


def _signal(signal: SignalState, bins: Bins, counts: Floats, squares: Floats, at: Moment) -> SignalState:
    """The design effect is that from before the flush: evidence may not rest on what it judges."""
    after = signal
    if signal.dependence.is_known:
        effect = design_effect(signal, bins, at.replicas)
        known = evidence.update(signal.evidence, bins, counts, effect, at.began_s, at.share)
        log10 = float(known.log10)
        after = replace(signal, evidence=known)
        if log10 > signal.peak:
            after = replace(after, peak=log10, since=float(known.likeliest_start))
    return replace(
        after,
        dependence=dependence.update(signal.dependence, squares[:-1], squares[-1]),
        rhythm=rhythm.update(signal.rhythm, bins, counts, at.hour),
    )


def _since(layout: Layout, state: State, sums: Sums) -> Floats:
    """What the totals have more than those judged: nothing, where they have less, for then the server lost some."""
    if not sums.totals.size:
        return layout.empty()
    if sums.born != state.born:
        return sums.totals
    new = sums.totals - state.totals
    is_less = any((layout.of(new, f"counts:{name}") < 0).any() for name in layout.signals)
    return layout.empty() if is_less else new


def _in_period(layout: Layout, state: State, now_s: float) -> State:
    """Evidence starts anew at 0:00 UTC; what is known of dependence stays."""
    began_s = now_s - now_s % PERIOD_S
    if state.judged_s >= began_s:
        return state
    signals = {name: _next_period(signal, layout.bins[name]) for name, signal in state.signals.items()}
    return replace(state, signals=signals, peak=0.0, judged_s=began_s, looked_s=max(state.looked_s, began_s))


def _next_period(signal: SignalState, bins: Bins) -> SignalState:
    return SignalState(evidence.Evidence.fresh(bins), signal.dependence, rhythm.end_day(signal.rhythm, bins))
