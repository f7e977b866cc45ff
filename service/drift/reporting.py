"""State and window -> the report that everybody reads. Pure.

Evidence is the largest since the restart at 0:00 UTC; shares, loss and OOD rate are of the window.
"""

from collections.abc import Mapping

import numpy as np

from service.drift import decision, display, effect, evidence, words
from service.drift.bins import Bins
from service.drift.effect import Interval
from service.drift.judge import Terms
from service.drift.layout import Floats, Layout
from service.drift.ledger import Sums
from service.drift.state import Peak, State
from service.schemas_drift import DriftReport, LossEstimate, OodRate, SignalReport

OOD_LEVEL = 0.95  # of the reference; scores above are extreme


def report(layout: Layout, terms: Terms, state: State, sums: Sums) -> DriftReport:
    window = sums.window if sums.window.size else layout.empty()
    manifest, threshold = layout.manifest, float(np.log10(terms.threshold))
    effects = {
        name: float(signal.design_effect(layout.bins[name], sums.replicas))
        for name, signal in state.detector.signals.items()
    }
    peak = float(state.detector.log10_peak)
    signals = _signals(layout, state, window, effects, threshold)
    loss, rise = _loss(layout, window, effects["score"], state.audit)
    ood, ratio = _ood(layout.bins["ood_score"], layout.of(window, "counts:ood_score"), effects["ood_score"])
    decided = decision.decide(
        peak,
        log10_threshold=threshold,
        is_known=bool(state.detector.is_known),
        loss_rise=rise,
        wanted_rise=terms.loss_rise,
        ood_ratio=ratio,
    )
    counted, thinned, not_finite = layout.of(window, "outcomes").tolist()
    counts = decided.state in {"warning", "drift"}
    strongest = max(signals, key=lambda one: one.evidence)
    made = DriftReport(
        model=manifest.model,
        version=manifest.version,
        state=decided.state,
        reason=f"{decided.reason[0].upper()}{decided.reason[1:]}.",
        evidence=peak,
        threshold=threshold,
        since=state.peaks[strongest.name].since if counts else None,
        observations=round(counted),
        thinned=round(thinned),
        not_finite=round(not_finite),
        window_s=terms.window_s,
        loss=loss,
        ood=ood,
        embedding_shift=_embedding_shift(layout.of(window, "embedding")),
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
    made = [
        _signal(name, layout.bins[name], state.peaks[name], layout.of(window, f"counts:{name}"), effects[name])
        for name in layout.signals
    ]
    named = evidence.named(np.array([one.evidence for one in made]), threshold).tolist()
    return [
        one.model_copy(update={"is_named": is_named, "since": state.peaks[one.name].since if is_named else None})
        for one, is_named in zip(made, named, strict=True)
    ]


def _signal(name: str, bins: Bins, peak: Peak, counts: Floats, design: float) -> SignalReport:
    """Not named yet: that takes all of them."""
    return SignalReport(
        name=name,
        evidence=peak.log10,
        shift=bins.shift(counts),
        since=None,
        is_named=False,
        design_effect=design,
        edges=bins.edges.tolist(),
        reference=bins.shares.tolist(),
        window=display.window_shares(counts).tolist(),
        psi=display.psi(bins, counts),
        psi_null=display.psi_null(bins, float(counts.sum()) / design),
        ks=display.ks_distance(bins, counts),
    )


def _loss(
    layout: Layout, window: Floats, design: float, audit: effect.AuditSums
) -> tuple[LossEstimate | None, Interval | None]:
    """With its change relative to the reference; that is None as well where the reference's mean is 0."""
    reference, unit = layout.manifest.loss_reference, layout.manifest.loss.unit
    estimate = effect.mean_loss(effect.Sums(*layout.of(window, "loss").tolist()), design, audit)
    if reference is None or estimate is None:
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
    """With its ratio to the reference's. The edge nearest to the 95 % point decides what is extreme."""
    below = np.cumsum(bins.shares)[:-1]
    if not below.size:  # a reference with one value
        return None, None
    edge = int(np.abs(below - OOD_LEVEL).argmin())
    reference = float(1 - below[edge])
    rate = effect.exceedance(float(counts[edge + 1 :].sum()), float(counts.sum()), design)
    if rate is None:
        return None, None
    made = OodRate(rate=rate.value, low=rate.low, high=rate.high, reference=reference)
    return made, effect.exceedance_ratio(rate, reference, bins.size)


def _embedding_shift(section: Floats) -> float | None:
    if not section.size or not section[0]:
        return None
    return float(np.linalg.norm(section[1:] / section[0]))
