"""State and window -> the report that everybody reads. Pure.

Evidence is the largest since the restart at 0:00 UTC; shares are of the window; loss, OOD rate and what is
said of a signal that moved are of the time since the change, where that is shorter. Audit labels correct a loss by
images from after the change alone; without one, by those of two days.
"""

from collections.abc import Mapping

import numpy as np

from service.drift.layout import Floats, Layout
from service.drift.ledger import Sums
from service.drift.report import decision, words
from service.drift.state import State
from service.drift.statistics import dependence, effect, evidence
from service.drift.statistics import distances as display
from service.drift.statistics.bins import Bins
from service.drift.statistics.effect import AuditSums, Interval
from service.drift.statistics.onset import likeliest_start
from service.drift.transition import Terms
from service.schemas.drift import DriftReport, LossEstimate, OodRate, SignalReport


def report(layout: Layout, terms: Terms, state: State, sums: Sums) -> DriftReport:
    window = sums.window if sums.window.size else layout.empty()
    peak, threshold = float(state.detector.log10_peak), float(np.log10(terms.threshold))
    effects = {
        name: float(one.design_effect(layout.bins[name], sums.replicas)) for name, one in state.detector.signals.items()
    }
    signals = _signals(layout, state, window, effects, threshold)
    start = _start(layout, state, effects) if peak >= threshold else None
    since = None if start is None else float(state.history.times[start])
    affected = _affected(layout, state, start, window)
    known = {name: bool(dependence.is_known(one.dependence)) for name, one in state.detector.signals.items()}
    loss, rise = _loss(layout, affected, effects["score"], state.audit.since(since)) if known["score"] else (None, None)
    counts = layout.of(affected, "counts:ood_score")
    ood, ratio = _ood(layout.bins["ood_score"], counts, effects["ood_score"]) if known["ood_score"] else (None, None)
    decided = decision.decide(
        peak,
        log10_threshold=threshold,
        is_known=bool(state.detector.is_known),
        loss_rise=rise,
        wanted_rise=terms.loss_rise,
        ood_ratio=ratio,
    )
    counted, thinned, not_finite = layout.of(window, "outcomes").tolist()
    made = DriftReport(
        model=layout.manifest.model,
        version=layout.manifest.version,
        state=decided.state,
        reason=f"{decided.reason[0].upper()}{decided.reason[1:]}.",
        evidence=peak,
        threshold=threshold,
        since=since,
        observations=round(counted),
        thinned=round(thinned),
        not_finite=round(not_finite),
        window_s=terms.window_s,
        loss=loss,
        ood=ood,
        embedding_shift=_embedding_shift(layout, window, max(effects["score"], effects["ood_score"])),
        moved=[one.name for one in sorted(signals, key=lambda one: -one.evidence) if one.is_named],
        summary="",
        advice="",
        signals=signals,
        not_watched=list(layout.not_watched),
        updated_at=sums.now_s,
    )
    return made.model_copy(update={"summary": words.summary(made), "advice": words.advice(made)})


def _signals(
    layout: Layout, state: State, window: Floats, effects: Mapping[str, float], threshold: float
) -> list[SignalReport]:
    named = evidence.named(np.array([state.peaks[name] for name in layout.signals]), threshold).tolist()
    reports = []
    for name, is_named in zip(layout.signals, named, strict=True):
        section, bins, design = f"counts:{name}", layout.bins[name], effects[name]
        counts = layout.of(window, section)
        start = _start_of(layout, state, name, design) if is_named else None
        one = SignalReport(
            name=name,
            evidence=state.peaks[name],
            shift=bins.shift(layout.of(_affected(layout, state, start, window), section)),
            since=None if start is None else float(state.history.times[start]),
            is_named=is_named,
            design_effect=design,
            edges=bins.edges.tolist(),
            reference=bins.shares.tolist(),
            window=display.window_shares(counts).tolist(),
            psi=display.psi(bins, counts),
            psi_null=display.psi_null(bins, float(counts.sum()) / design),
            ks=display.ks_distance(bins, counts),
        )
        reports.append(one)
    return reports


def _affected(layout: Layout, state: State, start: int | None, window: Floats) -> Floats:
    """What came since the start of the change, or in the window where that is less; as much as has a history."""
    in_window = window[: layout.remembered]
    if start is None:
        return in_window
    since = state.seen - state.history.sums[start]
    return since if layout.of(since, "loss")[0] < layout.of(in_window, "loss")[0] else in_window


def _start(layout: Layout, state: State, effects: Mapping[str, float]) -> int | None:
    """By the signal that has the most evidence."""
    strongest = max(layout.signals, key=lambda name: state.peaks[name])
    return _start_of(layout, state, strongest, effects[strongest])


def _start_of(layout: Layout, state: State, name: str, design: float) -> int | None:
    """Index in the history. None when there is none: the evidence was taken over from a leader that kept none."""
    if not len(state.history.times):
        return None
    section = f"counts:{name}"
    return likeliest_start(
        layout.bins[name], layout.of(state.history.sums, section), layout.of(state.seen, section), design
    )


def _loss(
    layout: Layout, affected: Floats, design: float, audit: AuditSums
) -> tuple[LossEstimate | None, Interval | None]:
    """With its change relative to the reference; that is None as well where the reference's mean is 0."""
    reference, unit = layout.manifest.loss_reference, layout.manifest.loss.unit
    estimate = effect.mean_loss(effect.Sums(*layout.of(affected, "loss").tolist()), design, audit)
    if estimate is None:
        return None, None
    mean = reference.mean_predicted_loss
    corrects = audit.labels >= effect.ENOUGH_LABELS
    made = LossEstimate(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        reference=mean,
        unit=unit,
        assumes_head=not corrects,
        audit_labels=audit.labels,
    )
    return made, effect.rise(estimate, mean, reference.sd, reference.n) if mean > 0 else None


def _ood(bins: Bins, counts: Floats, design: float) -> tuple[OodRate | None, Interval | None]:
    """With its ratio to the reference's."""
    reference = float(bins.shares[bins.extreme].sum())
    rate = effect.exceedance(float(counts[bins.extreme].sum()), float(counts.sum()), design)
    if rate is None or bins.extreme.all():  # or the reference has but one value
        return None, None
    made = OodRate(rate=rate.value, low=rate.low, high=rate.high, reference=reference)
    return made, effect.exceedance_ratio(rate, reference, bins.size)


def _embedding_shift(layout: Layout, window: Floats, design: float) -> float | None:
    """Length of the whitened mean, less what it has by chance: in the square d D / n, and d / m by the reference."""
    section, reference = layout.of(window, "embedding"), layout.manifest.embedding_reference
    if reference is None or not section[0]:
        return None
    n, mean = section[0], section[1:] / section[0]
    by_chance = len(mean) * (design / n + 1 / reference.size)
    return float(np.sqrt(max(mean @ mean - by_chance, 0.0)))
