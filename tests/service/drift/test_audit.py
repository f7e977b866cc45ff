import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from models.contract.loss_definition import KeypointLoss
from models.contract.manifest import Manifest
from service.drift.audit import AuditLoss, AuditRecord, losses, read
from service.drift.ledger import BUCKET_S, KEEP_S
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.label_queue import LabelRecord
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample
from service.redis.server import RedisServer

NOW = 1_000_000 * BUCKET_S
PREDICTED = [[2.0, 2.0], [6.0, 6.0]]


@pytest.fixture
def manifest(watched: Manifest) -> Manifest:
    return watched.model_copy(update={"loss": watched.loss.model_copy(update={"definition": KeypointLoss()})})


@pytest.fixture
def sample(model: str) -> Sample:
    return Sample(
        id="5" * 32,
        model=model,
        version="1",
        content_type="image/png",
        reasons=(),
        value=1.0,
        predicted_loss=0.5,
        score=0.5,
        ood_score=0.1,
        prediction={"kind": "keypoints", "values": PREDICTED},
        flagged_at=7.0,
        lane="audit",
        audit_probability=0.25,
        width=8,
        height=8,
    )


def record(sample: Sample, values: Any = PREDICTED, **changes: Any) -> LabelRecord:
    return LabelRecord("1-0", dataclasses.replace(sample, **changes), "ada", {"values": values}, 9.0)


def test_an_audit_label_is_the_true_loss_beside_the_predicted_one(manifest: Manifest, sample: Sample) -> None:
    (loss,) = losses(manifest, [record(sample, [[2.0, 5.0], [6.0, 6.0]])])
    assert (loss.predicted, loss.true, loss.probability, loss.seen_at) == (0.5, 1.5, 0.25, 7.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"lane": "predicted_loss", "audit_probability": None},  # flagged: a biased sample
        {"audit_probability": None},
        {"version": "2"},
        {"counts_for_drift": False},  # thinned: the corrected mean does not include it
    ],
)
def test_other_labels_do_not_count(manifest: Manifest, sample: Sample, changes: dict[str, Any]) -> None:
    assert list(losses(manifest, [record(sample, **changes)])) == []


@pytest.mark.parametrize("values", [[[1.0, 1.0]], "text", None, [[1.0, 1.0], ["x", 2.0]], [None, None]])
def test_an_unreadable_label_is_skipped(manifest: Manifest, sample: Sample, values: Any) -> None:
    fine = record(sample)
    assert len(list(losses(manifest, [record(sample, values), fine]))) == 1
    assert len(list(losses(manifest, [dataclasses.replace(fine, label=values), fine]))) == 1


@pytest.mark.parametrize("far", [1e3, 1e9, 1e153])
def test_one_absurd_label_is_skipped_and_logged(
    manifest: Manifest, sample: Sample, far: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Squared and weighted, it would outweigh all others or not be finite."""
    fine = record(sample)
    assert len(list(losses(manifest, [record(sample, [[far, 2.0], [6.0, 6.0]]), fine]))) == 1
    assert "does not count" in caplog.text
    assert list(losses(manifest, [record(sample, audit_probability=1e-200)])) == []


def test_no_loss_exceeds_its_bound(manifest: Manifest, sample: Sample) -> None:
    bounded = manifest.model_copy(update={"loss": manifest.loss.model_copy(update={"bound": 1.0})})
    assert list(losses(bounded, [record(sample, [[2.0, 5.0], [6.0, 6.0]])])) == []
    assert len(list(losses(bounded, [record(sample, [[2.0, 3.0], [6.0, 6.0]])]))) == 1


def test_a_bundle_that_declares_no_loss_has_none(watched: Manifest, sample: Sample) -> None:
    assert list(losses(watched, [record(sample)])) == []


async def test_labels_are_read_from_the_queue_page_by_page_and_once(
    manifest: Manifest, sample: Sample, redis: RedisServer, make: Callable[..., Sample]
) -> None:
    queue = RedisQueue(redis, BlobStore.open("memory:///"))
    for n in range(3):
        one = make(sample, n)
        await queue.put([one])
        await queue.label(one.model, one.id, "ada", "token", {"values": PREDICTED})
    page = await read(queue, manifest, "")
    assert len(page.losses) == 3
    again = await read(queue, manifest, page.cursor)
    assert (list(again.losses), again.cursor) == ([], page.cursor)


@pytest.fixture
def make() -> Callable[..., Sample]:
    return lambda sample, n: dataclasses.replace(sample, id=f"{n:032x}")


def seen(seen_at: float) -> AuditLoss:
    return AuditLoss(predicted=0.5, true=1.0, probability=0.1, seen_at=seen_at)


def test_only_buckets_that_began_after_a_change_count_for_it() -> None:
    record = AuditRecord().add([seen(NOW - 2 * BUCKET_S), seen(NOW - 1.0), seen(NOW), seen(NOW + 5.0)], NOW + 10.0)
    assert [record.since(at).labels for at in (None, NOW - BUCKET_S, NOW, NOW + 1.0)] == [4, 3, 2, 0]
    assert record.since(NOW).wd == pytest.approx(2 * 0.5 / 0.1)


def test_labels_of_two_days_ago_are_forgotten_and_a_clock_ahead_is_corrected() -> None:
    record = AuditRecord().add([seen(NOW), seen(NOW + 1e9)], NOW)
    assert record.since(NOW).labels == 2
    assert record.add([], NOW + KEEP_S + 2 * BUCKET_S).buckets == {}


def test_a_record_survives_json_and_that_of_another_release_is_refused() -> None:
    record = AuditRecord().add([seen(NOW), seen(NOW + BUCKET_S)], NOW + BUCKET_S)
    assert AuditRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    with pytest.raises(TypeError):
        AuditRecord.from_json({"1": {"number": 3}})
