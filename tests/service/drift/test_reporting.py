"""Reports of made-up traffic, figures and words alike."""

import math

import pytest

from models.contract.manifest import Manifest
from service.drift import judge
from service.drift.audit import AuditLoss, AuditPage
from service.drift.evidence import PERIOD_S
from service.drift.judge import Terms
from service.drift.layout import Layout
from service.drift.reporting import report
from service.drift.state import State
from service.schemas_drift import DriftReport
from tests.service.drift.traffic import Ledgerless

NOON = 20_000 * PERIOD_S + PERIOD_S / 2
START = 75.0  # s after noon, of the shift
NO_LABELS = AuditPage([], "")


@pytest.fixture
def layout(watched: Manifest) -> Layout:
    """Without image signals: the canvases of these tests are all alike."""
    reference = {name: watched.drift_reference[name] for name in ("score", "ood_score")}
    return Layout(watched.model_copy(update={"drift_reference": reference}))


def reported(layout: Layout, shift: float, page: AuditPage = NO_LABELS, clean: int = 15) -> DriftReport:
    """After `clean` flushes of 100 images, one each 5 s, and four more that are shifted."""
    traffic, state = Ledgerless(layout), State.fresh(layout)
    sums = traffic.sums(NOON)
    for flush in range(clean + 4):
        sums = traffic.sums(NOON + 5.0 * (flush + 1), 100, shift if flush >= clean else 0.0)
        state = judge.update(layout, state, sums, page if flush == clean else NO_LABELS)
    return report(layout, Terms(), state, sums)


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
    assert made.summary == "Nothing moved, as far as 1900 images in the last 1 h can tell."
    assert made.advice == "Nothing."
    assert made.ood is not None
    assert made.ood.low < made.ood.reference == pytest.approx(0.05, abs=0.01)
    assert made.embedding_shift == pytest.approx(0.0, abs=1e-9)


def test_too_little_traffic_has_no_verdict_whatever_it_is_like(layout: Layout) -> None:
    made = reported(layout, 0.5, clean=0)
    assert (made.state, made.since, made.moved) == ("insufficient_data", None, [])
    assert made.summary == "400 images in the last 1 h: too few for a verdict."


def test_no_traffic_at_all_has_a_report(layout: Layout) -> None:
    traffic = Ledgerless(layout)
    sums = traffic.sums(NOON)
    made = report(layout, Terms(), judge.update(layout, State.fresh(layout), sums, NO_LABELS), sums)
    assert (made.state, made.observations, made.loss, made.ood) == ("insufficient_data", 0, None, None)
    assert made.embedding_shift is None


def test_audit_labels_correct_the_head(layout: Layout) -> None:
    """The head is wrong by .4 on every image: the loss did not rise, it fell."""
    page = AuditPage([AuditLoss(0.6, 0.2 + 0.001 * n, 0.01, 0.0) for n in range(-50, 50)], "1-0")
    made = reported(layout, 0.2, page)
    assert made.loss is not None
    assert (made.loss.assumes_head, made.loss.audit_labels) == (False, 100)
    assert made.loss.value == pytest.approx(0.7 - 0.4, abs=0.06)
    assert made.state == "warning"
    assert "corrected by 100 audit labels" in made.summary
    assert "Label the audit lane" not in made.advice


def test_a_bundle_without_a_loss_reference_has_no_estimate_and_no_page_by_loss(layout: Layout) -> None:
    bare = Layout(layout.manifest.model_copy(update={"loss_reference": None, "embedding_reference": None}))
    made = reported(bare, 0.2)
    assert (made.state, made.loss, made.embedding_shift) == ("warning", None, None)
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
