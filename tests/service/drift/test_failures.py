import logging

import pytest

from service.drift.failures import BACKOFF_MAX_S, VersionFailures
from service.drift.ledger import Place

log = logging.getLogger(__name__)
PLACE, OTHER = Place("m", "1", "layout"), Place("m", "2", "layout")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_flush_that_fails_is_tried_ever_more_rarely_until_it_succeeds() -> None:
    clock, waits = Clock(), []
    failures = VersionFailures(log, 10.0, clock)
    for _ in range(5):
        failures.note(PLACE, "flush", OSError("away"))
        began_s = clock.now_s
        while not failures.is_due(PLACE):
            clock.now_s += 1.0
        waits.append(clock.now_s - began_s)
        assert failures.is_due(OTHER)
    assert waits == [10, 20, 40, BACKOFF_MAX_S, BACKOFF_MAX_S]
    failures.over(PLACE, "flush")
    failures.note(PLACE, "flush", OSError("away"))
    clock.now_s += 10
    assert failures.is_due(PLACE)


def test_labels_that_cannot_be_read_delay_no_flush_and_are_not_why_there_is_no_report() -> None:
    failures = VersionFailures(log, 10.0)
    failures.note(PLACE, "labels", OSError("damaged"))
    assert failures.is_due(PLACE)
    assert failures.message("m", "1") is None
    failures.note(PLACE, "flush", OSError("away"))
    assert failures.message("m", "1") == "away"


def test_each_kind_is_told_of_when_it_begins_and_again_after_it_was_over(caplog: pytest.LogCaptureFixture) -> None:
    failures = VersionFailures(log, 10.0)
    for _ in range(3):
        failures.note(PLACE, "labels", OSError("damaged"))
        failures.note(PLACE, "flush", OSError("away"))
    assert len(caplog.records) == 2
    failures.over(PLACE, "flush")
    failures.note(PLACE, "flush", OSError("away"))
    assert len(caplog.records) == 3


def test_versions_that_are_gone_are_forgotten() -> None:
    failures = VersionFailures(log, 10.0)
    failures.note(PLACE, "flush", OSError())
    assert failures.message("m", "1") == "OSError"
    failures.forget_others({OTHER})
    assert failures.message("m", "1") is None
    assert failures.is_due(PLACE)
