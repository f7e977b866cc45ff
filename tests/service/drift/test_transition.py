"""The judge on sums of made-up traffic: what counts once, what a loss of data does, when it begins anew."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from models.contract.manifest import Manifest, OrderStatistics
from service.drift import transition
from service.drift.audit import AuditLoss, AuditPage
from service.drift.detector_state import DetectorState
from service.drift.layout import Layout
from service.drift.statistics.evidence import PERIOD_S
from service.inference.outcome import Forecast
from tests.service.drift.traffic import CANVAS, Ledgerless

NOON = 20_000 * PERIOD_S + PERIOD_S / 2
NO_LABELS = AuditPage([], "")
NOWHERE, EMBEDDING = np.zeros((2, 2), np.float32), np.array([0.0, 0.5, 0.0, 0.0], np.float32)


@pytest.fixture
def layout(watched: Manifest) -> Layout:
    """Without image signals: the canvases of these tests are all alike."""
    reference = {name: watched.drift_reference[name] for name in ("score", "ood_score")}
    return Layout(watched.model_copy(update={"drift_reference": reference}))


@pytest.fixture
def traffic(layout: Layout) -> Ledgerless:
    return Ledgerless(layout)


def run(layout: Layout, traffic: Ledgerless, state: DetectorState, *flushes: tuple[float, int, float]) -> DetectorState:
    """flushes: seconds after noon, images, shift."""
    for at_s, n, shift in flushes:
        state = transition.update(layout, state, traffic.sums(NOON + at_s, n, shift), NO_LABELS)
    return state


def clean(first: int, flushes: int, n: int = 100) -> list[tuple[float, int, float]]:
    return [(5.0 * (first + flush), n, 0.0) for flush in range(flushes)]


def test_traffic_of_the_reference_leaves_no_evidence(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 40))
    assert state.detector.is_known
    assert float(state.detector.log10_peak) < 1


def test_a_shift_is_evidence_of_its_signal_alone(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 15), (75.0, 200, 0.2), (80.0, 200, 0.2))
    assert float(state.detector.log10_peak) > 3
    assert state.peaks["score"] > 3
    assert state.peaks["ood_score"] < 1


@pytest.mark.parametrize(("value", "is_moved"), [(7.0, False), (7.5, True)])
def test_a_signal_that_never_varied_moves_when_it_takes_another_value(
    layout: Layout,
    value: float,
    is_moved: bool,  # noqa: FBT001 - a case
) -> None:
    """A score with one value in the reference: noise as small as its jitter spreads it, there and here."""
    jittered = np.sort(7.0 + 1e-3 * np.random.default_rng(1).random(999))
    constant = OrderStatistics(size=999, ranks=tuple(range(1, 1000)), values=tuple(jittered.tolist()), jitter=1e-3)
    reference = {**layout.manifest.drift_reference, "score": constant}
    layout = Layout(layout.manifest.model_copy(update={"drift_reference": reference}))
    traffic, state = Ledgerless(layout), DetectorState.fresh(layout)
    for flush in range(20):
        shown = value if flush >= 15 else 7.0
        observe(traffic, [Forecast(NOWHERE, shown, 0.5, ood, EMBEDDING) for ood in traffic.rng.random(100).tolist()])
        state = run(layout, traffic, state, (5.0 * flush, 0, 0.0))
    assert (state.peaks["score"] > 3) == is_moved
    assert state.peaks["ood_score"] < 1


def test_a_signal_with_few_values_is_no_evidence_by_itself(layout: Layout) -> None:
    """Whole numbers from 0 to 4, in the reference and in traffic, with jitter on both."""
    rng = np.random.default_rng(2)
    jittered = np.sort(rng.integers(0, 5, 999) + 1e-3 * rng.random(999))
    discrete = OrderStatistics(size=999, ranks=tuple(range(1, 1000)), values=tuple(jittered.tolist()), jitter=1e-3)
    reference = {**layout.manifest.drift_reference, "score": discrete}
    layout = Layout(layout.manifest.model_copy(update={"drift_reference": reference}))
    traffic, state = Ledgerless(layout), DetectorState.fresh(layout)
    for flush in range(30):
        rows = zip(rng.integers(0, 5, 100).tolist(), rng.random(100).tolist(), strict=True)
        observe(traffic, [Forecast(NOWHERE, float(score), 0.5, ood, EMBEDDING) for score, ood in rows])
        state = run(layout, traffic, state, (5.0 * flush, 0, 0.0))
    assert max(state.peaks.values()) < 1


def observe(traffic: Ledgerless, forecasts: list[Forecast]) -> None:
    for forecast in forecasts:
        traffic.tally.observe(forecast, CANVAS, (8, 8), None)


def test_the_same_sums_twice_are_judged_once(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 15))
    again = run(layout, traffic, state, (75.0, 0, 0.0))
    np.testing.assert_array_equal(again.seen, state.seen)
    for name, signal in state.detector.signals.items():
        np.testing.assert_array_equal(again.detector.signals[name].evidence.counts, signal.evidence.counts)


def test_it_goes_on_from_what_was_written(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 15))
    other = transition.read(layout, traffic.sums(NOON + 75.0, state=state.to_json()))
    sums = traffic.sums(NOON + 75.0, 200, 0.2)
    mine, theirs = (transition.update(layout, one, sums, NO_LABELS) for one in (state, other))
    assert mine.to_json() == theirs.to_json()


def test_totals_that_began_anew_count_from_nothing(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 3))
    traffic.totals, traffic.born = layout.empty(), "2000"
    after = run(layout, traffic, state, (20.0, 400, 0.0))
    assert layout.of(after.seen, "loss")[0] == 300 + 400


def test_totals_that_went_back_count_from_where_they_are(layout: Layout, traffic: Ledgerless) -> None:
    early = traffic.sums(NOON, 100).totals
    state = run(layout, traffic, DetectorState.fresh(layout), (5.0, 100, 0.0))
    traffic.totals = early
    state = run(layout, traffic, state, (10.0, 0, 0.0))
    assert layout.of(state.seen, "loss")[0] == 200
    state = run(layout, traffic, state, (15.0, 50, 0.0))
    assert layout.of(state.seen, "loss")[0] == 250
    assert np.isfinite(float(state.detector.log10_peak))


def test_a_server_without_totals_is_no_trouble(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 3))
    emptied = replace(traffic.sums(NOON + 20.0), totals=np.empty(0), window=np.empty(0), born="")
    after = transition.update(layout, state, emptied, NO_LABELS)
    assert not after.totals.any()
    np.testing.assert_array_equal(after.seen, state.seen)


def test_a_clock_that_goes_back_neither_fails_nor_begins_anew(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 15))
    after = run(layout, traffic, state, (-3600.0, 100, 0.0), (-PERIOD_S, 100, 0.0))
    assert layout.of(after.seen, "loss")[0] == 1700
    assert after.detector.updated_s == state.detector.updated_s


def test_evidence_begins_anew_at_midnight_and_what_is_known_of_dependence_stays(
    layout: Layout, traffic: Ledgerless
) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 15), (80.0, 400, 0.3))
    assert float(state.detector.log10_peak) > 3
    after = run(layout, traffic, state, (PERIOD_S / 2 + 1, 50, 0.0))
    assert float(after.detector.log10_peak) < 1
    assert max(after.peaks.values()) < 1
    assert layout.of(after.seen, "loss")[0] == 50
    assert after.history.times.tolist() == [NOON + PERIOD_S / 2]
    assert after.detector.is_known


@pytest.mark.parametrize("written", [b"", b"{}", b"\0", b'{"totals": [1.0]}'])
def test_a_state_that_cannot_be_read_is_begun_anew(layout: Layout, traffic: Ledgerless, written: bytes) -> None:
    state = transition.read(layout, traffic.sums(NOON, 10, state=written))
    assert transition.update(layout, state, traffic.sums(NOON, 10), NO_LABELS).totals.any()


def of_other_tilts(known: dict[str, Any]) -> None:
    for signal in known["detector"]["signals"].values():
        for name in ("log_mixture", "log_best", "base"):
            signal["evidence"][name] = signal["evidence"][name][:-2]


def of_a_list_of_signals(known: dict[str, Any]) -> None:
    known["detector"]["signals"] = list(known["detector"]["signals"].values())


def of_no_time(known: dict[str, Any]) -> None:
    known["detector"]["updated_s"] = None


def of_more_moments(known: dict[str, Any]) -> None:
    known["history"]["times"] += [NOON]


@pytest.mark.parametrize("change", [of_other_tilts, of_a_list_of_signals, of_no_time, of_more_moments])
def test_a_state_of_another_build_is_begun_anew(
    layout: Layout, traffic: Ledgerless, change: Callable[[dict[str, Any]], None]
) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 15))
    known = orjson.loads(state.to_json())
    mine = transition.read(layout, traffic.sums(NOON + 75.0, state=orjson.dumps(known)))
    change(known)
    theirs = transition.read(layout, traffic.sums(NOON + 75.0, state=orjson.dumps(known)))
    assert mine.born == traffic.born
    assert (theirs.born, bool(theirs.totals.any())) == ("", False)
    assert run(layout, traffic, theirs, (80.0, 100, 0.0)).totals.any()


def test_only_what_came_or_an_hour_that_ended_is_news(layout: Layout, traffic: Ledgerless) -> None:
    state = run(layout, traffic, DetectorState.fresh(layout), *clean(0, 3))
    assert not transition.is_news(state, run(layout, traffic, state, (60.0, 0, 0.0)))
    assert transition.is_news(state, run(layout, traffic, state, (3600.0, 0, 0.0)))
    assert transition.is_news(state, transition.update(layout, state, traffic.sums(NOON + 60.0), AuditPage([], "7-0")))
    assert transition.is_news(state, run(layout, traffic, state, (60.0, 1, 0.0)))


def test_audit_labels_add_up_and_the_cursor_moves(layout: Layout, traffic: Ledgerless) -> None:
    state = DetectorState.fresh(layout)
    for cursor in ("1-0", "2-0"):
        page = AuditPage([AuditLoss(0.25, 0.75, 0.01, NOON)] * 2, cursor)
        state = transition.update(layout, state, traffic.sums(NOON), page)
    audit = state.audit.since(None)
    assert (audit.labels, audit.w, audit.wd) == (4, 400.0, 200.0)
    again = transition.read(layout, traffic.sums(NOON, state=state.to_json()))
    assert (again.cursor, again.audit) == ("2-0", state.audit)
