"""State and window -> the drift report that users read. Pure.

Evidence is the largest since the restart at 0:00 UTC. Shares are of the window. Loss, OOD rate and the shift of a moved
signal are of the time since the change, if that is shorter than the window. Audit labels correct the loss: after a
change only labels of images since then, otherwise those of two days.
"""

from collections.abc import Mapping

import numpy as np

from service.drift.detector_state import DetectorState
from service.drift.layout import Floats, Layout
from service.drift.ledger import LedgerSums
from service.drift.report import decision, words
from service.drift.report.decision import Terms
from service.drift.statistics import dependence, distances, effect, evidence
from service.drift.statistics.bins import Bins
from service.drift.statistics.effect import AuditSums, Interval
from service.drift.statistics.onset import likeliest_start
from service.schemas.drift import DriftReport, LossEstimate, OodRate, SignalReport


def drift_report(layout: Layout, terms: Terms, state: DetectorState, sums: LedgerSums) -> DriftReport:
    """The report on a version. state: after an update with these sums."""
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
    layout: Layout, state: DetectorState, window: Floats, effects: Mapping[str, float], threshold: float
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
            window=distances.window_shares(counts).tolist(),
            psi=distances.psi(bins, counts),
            psi_null=distances.psi_null(bins, float(counts.sum()) / design),
            ks=distances.ks_distance(bins, counts),
        )
        reports.append(one)
    return reports


def _affected(layout: Layout, state: DetectorState, start: int | None, window: Floats) -> Floats:
    """Sums since the start of the change, or of the window if that has fewer images. Only sections with a history."""
    in_window = window[: layout.remembered]
    if start is None:
        return in_window
    since = state.seen - state.history.sums[start]
    return since if layout.of(since, "loss")[0] < layout.of(in_window, "loss")[0] else in_window


def _start(layout: Layout, state: DetectorState, effects: Mapping[str, float]) -> int:
    """Index in the history at which the signal with the most evidence began to change."""
    strongest = max(layout.signals, key=lambda name: state.peaks[name])
    return _start_of(layout, state, strongest, effects[strongest])


def _start_of(layout: Layout, state: DetectorState, name: str, design: float) -> int:
    """Index in the history, which has a moment as soon as there is evidence."""
    section = f"counts:{name}"
    return likeliest_start(
        layout.bins[name], layout.of(state.history.sums, section), layout.of(state.seen, section), design
    )


def _loss(
    layout: Layout, affected: Floats, design: float, audit: AuditSums
) -> tuple[LossEstimate | None, Interval | None]:
    """The mean loss, and its change relative to the reference, which is None if the reference's mean is 0."""
    reference, unit = layout.manifest.loss_reference, layout.manifest.loss.unit
    estimate = effect.mean_loss(effect.LossSums(*layout.of(affected, "loss").tolist()), design, audit)
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
    """The rate of extreme OOD scores, and its ratio to the reference's rate."""
    reference = float(bins.shares[bins.extreme].sum())
    rate = effect.exceedance(float(counts[bins.extreme].sum()), float(counts.sum()), design)
    if rate is None or bins.extreme.all():  # all: the reference has a single value
        return None, None
    made = OodRate(rate=rate.value, low=rate.low, high=rate.high, reference=reference)
    return made, effect.exceedance_ratio(rate, reference, bins.size)


def _embedding_shift(layout: Layout, window: Floats, design: float) -> float | None:
    """Length of the whitened mean embedding, less its expectation by chance.

    By chance its square is d D / n from the window and d / m from the reference, for d directions.
    """
    section, reference = layout.of(window, "embedding"), layout.manifest.embedding_reference
    if reference is None or not section[0]:
        return None
    n, mean = section[0], section[1:] / section[0]
    by_chance = len(mean) * (design / n + 1 / reference.size)
    return float(np.sqrt(max(mean @ mean - by_chance, 0.0)))
