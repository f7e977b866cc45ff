from types import SimpleNamespace
from typing import Any

import pytest

from service import gauges
from service.telemetry.metrics import Metrics


def read(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    values = [line.split() for line in lines if line.startswith("losscast_") and "{" not in line]
    return {name: float(value) for name, value in values}


def parts(**fields: float) -> Any:
    return SimpleNamespace(**fields)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_the_line_has_its_images_in_flight_and_the_silence_of_its_store(metrics: Metrics) -> None:
    gauges.watch_line(metrics, parts(in_flight=2, in_flight_bytes=300), parts(silent_s=4))
    found = read(metrics)
    assert found["losscast_in_flight"] == 2
    assert found["losscast_in_flight_bytes"] == 300
    assert found["losscast_bundle_store_silent_seconds"] == 4


def test_labelling_has_the_journal_and_the_counters_of_its_background_work(metrics: Metrics) -> None:
    journal = parts(rows=1, size_bytes=2, oldest_age_s=3, endings=4)
    drain = parts(drained=5, failures=parts(errors=6))
    endings = parts(restored=7, given_up=8, failures=parts(errors=9))
    gauges.watch_labelling(metrics, journal, drain, endings, parts(deleted=10, failures=parts(errors=11)))
    found = read(metrics)
    names = ["journal_rows", "journal_bytes", "journal_oldest_age_seconds", "journal_endings"]
    names += ["drained_total", "drain_errors_total", "endings_restored_total", "endings_given_up_total"]
    names += ["endings_errors_total", "janitor_deleted_total", "janitor_errors_total"]
    assert [found[f"losscast_{name}"] for name in names] == list(range(1, 12))


def test_drift_has_its_flushes_and_the_images_that_wait_for_one(metrics: Metrics) -> None:
    gauges.watch_drift(metrics, parts(unflushed=1, faults=2), parts(flushes=3, errors=4))
    found = read(metrics)
    names = ["unflushed_observations", "faults_total", "flushes_total", "flush_errors_total"]
    assert [found[f"losscast_drift_{name}"] for name in names] == [1, 2, 3, 4]


def test_a_gauge_is_read_at_every_scrape(metrics: Metrics) -> None:
    settings = parts(max_in_flight=1, max_in_flight_bytes=2, journal_max_rows=3, journal_max_bytes=4)
    gauges.watch_limits(metrics, settings)
    names = ["in_flight_limit", "in_flight_bytes_limit", "journal_rows_limit", "journal_bytes_limit"]
    assert [read(metrics)[f"losscast_{name}"] for name in names] == [1, 2, 3, 4]
    settings.max_in_flight = 9
    assert read(metrics)["losscast_in_flight_limit"] == 9
