"""Labels count by when their images came, whenever they came themselves."""

import json

import pytest

from service.drift.audit import AuditLoss
from service.drift.audit_record import BUCKET_S, KEEP_S, AuditRecord

NOW = 1_000_000 * BUCKET_S


def loss(seen_at: float) -> AuditLoss:
    return AuditLoss(predicted=0.5, true=1.0, probability=0.1, seen_at=seen_at)


def test_only_buckets_that_began_after_a_change_are_of_its_time() -> None:
    record = AuditRecord().add([loss(NOW - 2 * BUCKET_S), loss(NOW - 1.0), loss(NOW), loss(NOW + 5.0)], NOW + 10.0)
    assert [record.since(at).labels for at in (None, NOW - BUCKET_S, NOW, NOW + 1.0)] == [4, 3, 2, 0]
    assert record.since(NOW).wd == pytest.approx(2 * 0.5 / 0.1)


def test_what_is_two_days_old_is_forgotten_and_a_clock_ahead_is_not_believed() -> None:
    record = AuditRecord().add([loss(NOW), loss(NOW + 1e9)], NOW)
    assert record.since(NOW).labels == 2
    assert record.add([], NOW + KEEP_S + 2 * BUCKET_S).buckets == {}


def test_it_survives_json_and_another_builds_is_refused() -> None:
    record = AuditRecord().add([loss(NOW), loss(NOW + BUCKET_S)], NOW + BUCKET_S)
    assert AuditRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    with pytest.raises(TypeError):
        AuditRecord.from_json({"1": {"number": 3}})
