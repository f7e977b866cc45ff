from collections.abc import Callable

import numpy as np
import pytest

from models.contract.manifest import Manifest
from service.drift.watch import Watch, Watches
from service.inference.outcome import Forecast

MakeForecast = Callable[..., Forecast]
CANVAS = np.zeros((8, 8, 1), np.uint8)


@pytest.fixture
def watches() -> Watches:
    return Watches(10.0)


def observe(watch: Watch, forecast: Forecast, n: int = 1) -> None:
    for _ in range(n):
        watch.tally.observe(forecast, CANVAS, (8, 8), None)


def test_a_parcel_does_not_change_until_it_is_delivered(
    watches: Watches, watched: Manifest, make_forecast: MakeForecast
) -> None:
    watch = watches.open(watched)
    observe(watch, make_forecast(0.5), 3)
    first = watch.pack()
    observe(watch, make_forecast(0.5), 2)
    assert watch.pack() is first
    assert first is not None
    assert (first.images, watch.unflushed) == (3, 5)
    watch.delivered()
    second = watch.pack()
    assert second is not None
    assert (second.images, second.sequence) == (2, first.sequence + 1)
    watch.delivered()
    assert (watch.pack(), watch.unflushed) == (None, 0)


def test_a_version_that_closes_is_watched_until_it_is_flushed(
    watches: Watches, watched: Manifest, make_forecast: MakeForecast
) -> None:
    watch, other = watches.open(watched), watches.open(watched.model_copy(update={"version": "2"}))
    observe(watch, make_forecast(0.5))
    watch.retire()
    watches.tidy()
    assert list(watches) == [watch, other]
    assert watches.unflushed == 1
    watch.pack()
    watch.delivered()
    watches.tidy()
    assert list(watches) == [other]


def test_a_version_that_is_loaded_again_is_another_replica_of_the_same_ledger(
    watches: Watches, watched: Manifest
) -> None:
    first, again = watches.open(watched), watches.open(watched)
    assert first.place == again.place
    assert first.replica != again.replica


def test_faults_of_closed_versions_are_counted_too(
    watches: Watches, watched: Manifest, make_forecast: MakeForecast, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = watches.open(watched), watches.open(watched)
    monkeypatch.setattr("service.drift.tally.Tally._observe", lambda *_: 1 / 0)
    observe(first, make_forecast(0.5), 2)
    observe(second, make_forecast(0.5))
    monkeypatch.undo()
    first.retire()
    first.pack()
    first.delivered()
    watches.tidy()
    assert list(watches) == [second]
    assert watches.faults == 3
