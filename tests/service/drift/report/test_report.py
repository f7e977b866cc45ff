"""Reports of made-up traffic, figures and words alike."""

import math
from dataclasses import replace

import numpy as np
import pytest

from models.contract.manifest import Manifest
from service.drift import transition
from service.drift.audit import AuditLoss, AuditPage
from service.drift.detector_state import DetectorState
from service.drift.layout import Layout
from service.drift.report.decision import Terms
from service.drift.report.report import drift_report
from service.drift.statistics.evidence import PERIOD_S
from service.schemas.drift import DriftReport
from tests.service.drift.traffic import Ledgerless

NOON = 20_000 * PERIOD_S + PERIOD_S / 2
START = 75.0  # s after noon, of the shift
NO_LABELS = AuditPage([], "")


@pytest.fixture
def layout(watched: Manifest) -> Layout:
    """Without image signals: the canvases of these tests are all alike."""
    reference = {name: watched.drift_reference[name] for name in ("score", "ood_score")}
    return Layout(watched.model_copy(update={"drift_reference": reference}))


def reported(
    layout: Layout, shift: float, page: AuditPage = NO_LABELS, clean: int = 15, every_s: float = 5.0
) -> DriftReport:
    """After `clean` flushes of 100 images, one each so many seconds, and four more that are shifted."""
    traffic, state = Ledgerless(layout), DetectorState.fresh(layout)
    sums = traffic.sums(NOON)
    for flush in range(clean + 4):
        sums = traffic.sums(NOON + every_s * (flush + 1), 100, shift if flush >= clean else 0.0)
        state = transition.update(layout, state, sums, page if flush == clean else NO_LABELS)
    return drift_report(layout, Terms(), state, sums)


def test_a_shift_of_the_score_pages_with_what_when_and_how_much(layout: Layout) -> None:
    made = reported(layout, 0.2)
    assert made.state == "drift"
    assert made.moved == ["score"]
    assert made.since == pytest.approx(NOON + START, abs=5.0)
    assert made.loss is not None
    assert made.loss.value == pytest.approx(0.7, abs=0.05)  # of the time since, not of the window
    assert made.loss.low > made.loss.reference
    (score,) = (one for one in made.signals if one.name == "score")
    assert score.is_named
    assert score.shift == pytest.approx(0.18, abs=0.04)
    assert score.since == made.since
    assert sum(score.window) == pytest.approx(1)
    assert made.summary.startswith("The model expects larger errors (score: on average at ")
    assert "up" in made.reason or "rose" in made.reason
    assert "+4" in made.summary or "+3" in made.summary
    assert "Label the audit lane" in made.advice


def test_a_shift_without_an_effect_is_a_warning(layout: Layout) -> None:
    made = reported(layout, -0.2)
    assert made.state == "warning"
    assert made.summary.startswith("The model expects smaller errors")


def test_traffic_of_the_reference_is_stable(layout: Layout) -> None:
    made = reported(layout, 0.0)
    assert (made.state, made.since, made.moved) == ("stable", None, [])
    assert made.observations == 1900
    assert made.summary == "No change is visible in 1900 images of the last 1 h."
    assert made.advice == "Nothing."
    assert made.ood is not None
    assert made.ood.low < made.ood.reference == pytest.approx(0.05, abs=0.01)
    assert made.embedding_shift == pytest.approx(0.0, abs=1e-9)


def test_too_little_traffic_has_no_verdict_whatever_it_is_like(layout: Layout) -> None:
    made = reported(layout, 0.5, clean=0)
    assert (made.state, made.since, made.moved) == ("insufficient_data", None, [])
    assert made.summary == "400 images in the last 1 h: too few to tell yet."
    assert "two blocks of 512 images, each on one replica since its start" in made.advice


def test_no_traffic_at_all_has_a_report(layout: Layout) -> None:
    traffic = Ledgerless(layout)
    sums = traffic.sums(NOON)
    made = drift_report(layout, Terms(), transition.update(layout, DetectorState.fresh(layout), sums, NO_LABELS), sums)
    assert (made.state, made.observations, made.loss, made.ood) == ("insufficient_data", 0, None, None)
    assert made.embedding_shift is None


def test_audit_labels_correct_the_head(layout: Layout) -> None:
    """The head is wrong by .4 on every image: the loss did not rise, it fell."""
    page = AuditPage(labels(0.6, 0.2, seen_at=NOON + 2400.0), "1-0")
    made = reported(layout, 0.2, page, every_s=150.0)
    assert made.loss is not None
    assert (made.loss.assumes_head, made.loss.audit_labels) == (False, 100)
    assert made.loss.value == pytest.approx(0.7 - 0.4, abs=0.06)
    assert made.state == "warning"
    assert "corrected by 100 audit labels" in made.summary
    assert "Label the audit lane" not in made.advice


def labels(predicted: float, true: float, seen_at: float, n: int = 100) -> list[AuditLoss]:
    return [AuditLoss(predicted, true + 0.001 * (k - n / 2), 0.01, seen_at) for k in range(n)]


def test_labels_of_images_from_before_the_change_correct_nothing_after_it(layout: Layout) -> None:
    """A record of a hundred labels that say the head is right, and of those since the change too few, then enough."""
    healthy = labels(0.5, 0.5, NOON + 100.0)
    few = reported(layout, 0.2, AuditPage([*healthy, *labels(0.6, 1.0, NOON + 2400.0, 20)], "1-0"), every_s=150.0)
    many = reported(layout, 0.2, AuditPage([*healthy, *labels(0.6, 1.0, NOON + 2400.0, 60)], "1-0"), every_s=150.0)
    before = reported(layout, 0.0, AuditPage(healthy, "1-0"), every_s=150.0)
    assert few.loss is not None
    assert many.loss is not None
    assert before.loss is not None
    assert (few.loss.assumes_head, few.loss.audit_labels) == (True, 20)
    assert (many.loss.assumes_head, many.loss.audit_labels) == (False, 60)
    assert many.loss.value == pytest.approx(0.7 + 0.4, abs=0.06)
    assert (before.loss.assumes_head, before.loss.audit_labels) == (False, 100)


def test_a_quiet_hour_after_midnight_has_no_effect_to_tell(layout: Layout) -> None:
    """What depends on what is known; three images with a large loss say nothing."""
    traffic, state = Ledgerless(layout), DetectorState.fresh(layout)
    for flush in range(15):
        state = transition.update(layout, state, traffic.sums(NOON + flush, 100), NO_LABELS)
    totals = traffic.totals
    sums = traffic.sums(NOON + PERIOD_S, 3, 0.4)
    sums = replace(sums, window=traffic.totals - totals)
    state = transition.update(layout, state, sums, NO_LABELS)
    made = drift_report(layout, Terms(), state, sums)
    assert (made.observations, made.loss, made.ood) == (3, None, None)


@pytest.mark.parametrize(("length", "low", "high"), [(0.0, 0.0, 0.12), (1.0, 0.8, 1.2)])
def test_the_mean_embedding_has_no_length_by_chance_alone(
    layout: Layout, length: float, low: float, high: float
) -> None:
    """Of 100 standard normal embeddings in two directions: uncorrected sqrt(2 / 100) = .14 in the mean."""
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        whitened = rng.standard_normal((100, 2)) + np.array([length, 0.0])
        window = layout.empty()
        layout.of(window, "embedding")[:] = 100, *whitened.sum(axis=0)
        sums = replace(Ledgerless(layout).sums(NOON), window=window)
        found.append(drift_report(layout, Terms(), DetectorState.fresh(layout), sums).embedding_shift)
    assert low <= np.median(np.array(found, np.float64)) <= high


def test_a_bundle_without_an_embedding_reference_has_no_embedding_shift(layout: Layout) -> None:
    bare = Layout(layout.manifest.model_copy(update={"embedding_reference": None}))
    made = reported(bare, 0.2)
    assert made.embedding_shift is None
    assert made.loss == reported(layout, 0.2).loss is not None
    assert made.not_watched == ["luminance", "contrast", "sharpness", "aspect", "size"]


def test_every_number_is_one(layout: Layout) -> None:
    numbers = [
        value
        for signal in reported(layout, 0.3).signals
        for field in signal.model_dump().values()
        for value in (field if isinstance(field, list) else [field])
        if isinstance(value, float)
    ]
    assert numbers
    assert all(math.isfinite(number) for number in numbers)
    assert DriftReport.model_validate_json(reported(layout, 0.3).model_dump_json()) == reported(layout, 0.3)
