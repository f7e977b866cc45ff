import logging

import pytest

from service.drift.failures import BACKOFF_MAX_S, VersionFailures
from service.drift.ledger import LedgerKey

log = logging.getLogger(__name__)
PLACE, OTHER = LedgerKey("m", "1", "layout"), LedgerKey("m", "2", "layout")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_flush_that_fails_is_tried_again_with_growing_pauses_until_it_succeeds() -> None:
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


def test_unreadable_labels_delay_no_flush_and_are_not_the_reason_for_a_missing_report() -> None:
    failures = VersionFailures(log, 10.0)
    failures.note(PLACE, "labels", OSError("damaged"))
    assert failures.is_due(PLACE)
    assert failures.message("m", "1") is None
    failures.note(PLACE, "flush", OSError("away"))
    assert failures.message("m", "1") == "away"


def test_each_kind_of_failure_is_logged_when_it_begins_and_again_after_it_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
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
