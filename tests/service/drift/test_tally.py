from collections.abc import Callable

import numpy as np
import pytest

from models.contract.manifest import Manifest
from models.contract.signals import SIGNALS
from service.drift import tally
from service.drift.layout import Floats, Layout
from service.drift.statistics import dependence
from service.drift.tally import Tally
from service.inference.outcome import Forecast

MakeForecast = Callable[..., Forecast]
CANVAS = np.zeros((8, 8, 1), np.uint8)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made(layout: Layout, clock: Clock) -> Tally:
    return Tally(layout, 10.0, clock, seed=0)


def observe(made: Tally, forecasts: list[Forecast], source: str | None = None) -> None:
    for forecast in forecasts:
        made.observe(forecast, CANVAS, (8, 8), source)


def taken(made: Tally) -> Floats:
    sums = made.take()
    assert sums is not None
    return sums


def test_every_image_is_counted_in_its_bin_once(made: Tally, layout: Layout, make_forecast: MakeForecast) -> None:
    scores = np.random.default_rng(1).random(1000)
    observe(made, [make_forecast(score) for score in scores])
    sums = taken(made)
    expected = np.bincount(layout.bins["score"].index(scores), minlength=len(layout.bins["score"].alpha))
    assert np.abs(layout.of(sums, "counts:score") - expected).max() <= 1  # an observation at an edge is jittered
    for name in SIGNALS:
        assert layout.of(sums, f"counts:{name}").sum() == 1000
    np.testing.assert_allclose(layout.of(sums, "loss"), [1000, scores.sum(), (scores**2).sum()])
    np.testing.assert_array_equal(layout.of(sums, "outcomes"), [1000, 0, 0])


def test_taking_the_sums_empties_the_tally(made: Tally, make_forecast: MakeForecast, layout: Layout) -> None:
    observe(made, [make_forecast(0.5)] * 3)
    assert made.unflushed == 3
    first = taken(made)
    assert made.unflushed == 0
    assert made.take() is None
    observe(made, [make_forecast(0.5)])
    assert layout.of(taken(made), "outcomes").tolist() == [1, 0, 0]
    assert layout.of(first, "outcomes").tolist() == [3, 0, 0]


def test_two_tallies_add_up_to_the_counts_of_one(layout: Layout, make_forecast: MakeForecast) -> None:
    scores = np.random.default_rng(2).random(500)
    one, first, second = (Tally(layout, 10.0, seed=seed) for seed in (0, 1, 2))
    observe(one, [make_forecast(score) for score in scores])
    observe(first, [make_forecast(score) for score in scores[:200]])
    observe(second, [make_forecast(score) for score in scores[200:]])
    both = taken(first) + taken(second)
    alone = taken(one)
    for section in ("loss", "embedding", "outcomes"):
        np.testing.assert_allclose(layout.of(both, section), layout.of(alone, section))
    assert np.abs(layout.of(both, "counts:score") - layout.of(alone, "counts:score")).max() <= 1


def test_repeated_frames_of_a_source_are_thinned_and_counted_as_such(
    made: Tally, clock: Clock, layout: Layout, make_forecast: MakeForecast
) -> None:
    for second in range(30):
        clock.now_s = float(second)
        observe(made, [make_forecast(0.9)], source="still camera")
    sums = taken(made)
    assert layout.of(sums, "outcomes").tolist() == [3, 27, 0]
    assert layout.of(sums, "counts:score").sum() == 3


def test_thinned_images_alone_make_a_flush_too(made: Tally, layout: Layout, make_forecast: MakeForecast) -> None:
    observe(made, [make_forecast(0.9)], source="camera")
    made.take()
    observe(made, [make_forecast(0.9)], source="camera")
    assert layout.of(taken(made), "outcomes").tolist() == [0, 1, 0]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_left_out_and_counted(
    made: Tally, layout: Layout, make_forecast: MakeForecast, number: float
) -> None:
    fine = make_forecast(0.5, embedding=(3.0, 2.0, 0.0, 0.0))
    observe(made, [fine, make_forecast(0.5, embedding=(number, 0.0, 0.0, 0.0)), fine])
    sums = taken(made)
    np.testing.assert_allclose(layout.of(sums, "embedding"), [2, 2 * 3.0, 2 * (2 * 2.0 - 1)])
    assert layout.of(sums, "outcomes").tolist() == [3, 0, 1]
    assert np.isfinite(sums).all()


def test_a_constant_signal_is_spread_by_its_jitter_alone(
    made: Tally, layout: Layout, make_forecast: MakeForecast
) -> None:
    observe(made, [make_forecast(0.25)] * 100)
    assert np.count_nonzero(layout.of(taken(made), "counts:score")) == 1


def test_image_signals_are_measured_for_a_bounded_number_of_images_evenly_over_time(
    made: Tally, clock: Clock, layout: Layout, make_forecast: MakeForecast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "BURST", 10)
    monkeypatch.setattr(tally, "IMAGES_PER_S", 4.0)
    observe(made, [make_forecast(0.5)] * 100)
    first = layout.of(taken(made), "counts:luminance").sum()
    for _ in range(100):
        clock.now_s += 0.05
        observe(made, [make_forecast(0.5)] * 5)
    then = taken(made)
    assert first <= 10
    assert layout.of(then, "counts:luminance").sum() == pytest.approx(5 * 4, abs=1)
    assert layout.of(then, "counts:score").sum() == 500


def test_blocks_of_dependence_are_not_cut_by_flushes(made: Tally, layout: Layout, make_forecast: MakeForecast) -> None:
    scores = np.random.default_rng(3).random(dependence.BLOCK)
    sums = layout.empty()
    for part in np.array_split(scores, 7):
        observe(made, [make_forecast(score) for score in part])
        sums += taken(made)
    normal = layout.bins["score"].normal_scores[layout.bins["score"].index(scores)]
    expected = dependence.statistics(normal[None])
    assert layout.of(sums, "dependence:score")[0] == 1
    np.testing.assert_allclose(layout.of(sums, "dependence:score"), expected, rtol=0.05)


def test_memory_does_not_grow_with_images_that_are_not_flushed(made: Tally, make_forecast: MakeForecast) -> None:
    observe(made, [make_forecast(0.5)] * 5000)
    assert len(made._forecasts) < tally.CHUNK
    assert len(made._images) < tally.IMAGE_CHUNK
    assert all(len(waiting) < dependence.BLOCK for waiting in made._waiting.values())
    assert made.unflushed == 5000


def test_without_references_of_image_signals_no_canvas_is_kept(
    tiny_version: Manifest, make_forecast: MakeForecast
) -> None:
    made = Tally(Layout(tiny_version), 10.0)
    observe(made, [make_forecast(0.5)] * 3)
    assert made._images == []


def test_a_posted_canvas_has_no_size_to_watch(made: Tally, layout: Layout, make_forecast: MakeForecast) -> None:
    for number in range(40):
        made.observe(make_forecast(0.5), CANVAS, (8, 8) if number % 4 == 0 else None, None)
    sums = taken(made)
    found = {name: layout.of(sums, f"counts:{name}").sum() for name in ("score", "luminance", "aspect", "size")}
    assert found == {"score": 40, "luminance": 40, "aspect": 10, "size": 10}


def test_observing_tells_whether_the_image_counts(made: Tally, clock: Clock, make_forecast: MakeForecast) -> None:
    told = []
    for clock.now_s in (0.0, 1.0, 20.0):
        told.append(made.observe(make_forecast(0.5), CANVAS, (8, 8), "camera"))
    assert told == [True, False, True]


def test_a_fault_of_drift_costs_no_prediction_and_is_logged_once(
    made: Tally, make_forecast: MakeForecast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tally, "jitter", lambda *_: 1 / 0)
    observe(made, [make_forecast(0.5)] * (3 * tally.CHUNK))
    assert made.faults > 1
    assert len(caplog.records) == 1
    monkeypatch.undo()
    before = made.faults
    observe(made, [make_forecast(0.5)] * tally.CHUNK)
    assert made.faults == before
