"""Spans of stations, made from their measured times. `tests/faults/test_spans_sent.py` tests the rest."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from service.telemetry.spans import ToldOnce, intervals

END = 1_700_000_000_000_000_000
SECONDS = st.floats(0, 100)


def test_stations_follow_each_other_from_the_first_moment_to_the_last() -> None:
    found = intervals({"decode": 0.001, "wait": 0.002, "infer": 0.003, "journal": 0.004, "total": 0.011}, END)
    assert [name for name, _, _ in found] == ["decode", "wait", "infer", "verdict", "journal"]
    assert [(end - start) // 1000 for _, start, end in found] == [1000, 2000, 3000, 1000, 4000]
    assert found[-1][2] == END


@given(decode=SECONDS, wait=SECONDS, infer=SECONDS, journal=st.none() | SECONDS, rest=st.floats(-1e-3, 1))
def test_intervals_leave_no_gap_and_add_up_to_the_whole(
    decode: float, wait: float, infer: float, journal: float | None, rest: float
) -> None:
    stations = {"decode": decode, "wait": wait, "infer": infer} | ({} if journal is None else {"journal": journal})
    stations["total"] = max(sum(stations.values()) + rest, journal or 0.0)  # clocks are read one after the other
    found = intervals(stations, END)
    assert found[0][1] == END - round(1e9 * stations["total"])
    assert found[-1][2] == END
    assert all(one[2] == next_one[1] for one, next_one in itertools.pairwise(found))
    assert all(start <= end for _, start, end in found)


class Scripted(SpanExporter):
    def __init__(self, *results: SpanExportResult) -> None:
        self._results = list(results)

    def export(self, _: object) -> SpanExportResult:
        return self._results.pop(0)


def test_failures_to_send_are_logged_when_they_begin_and_when_they_end(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    exporter = ToldOnce(Scripted(good, bad, bad, bad, good, good, bad))
    for _ in range(7):
        exporter.export([None, None])  # type: ignore[list-item]  # only counted
    assert [record.getMessage() for record in caplog.records] == [
        "spans are not sent, and lost until they are: no reason is given",
        "spans are sent again; at least 6 were lost",
        "spans are not sent, and lost until they are: no reason is given",
    ]
