"""Queues on a real server, and a helper that makes samples."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample, sample_id
from tests.service.labelling.queue.own_queue import OwnQueue

MakeSample = Callable[..., Sample]
Open = Callable[..., RedisQueue]


@pytest_asyncio.fixture
async def queue(server: Path) -> AsyncIterator[OwnQueue]:
    made = OwnQueue.open(str(server), BlobStore.open("memory:///"))
    yield made
    await made.close()


@pytest_asyncio.fixture
async def open_queue(server: Path) -> AsyncIterator[Open]:
    """Opens queues, each with a policy of its own."""
    opened: list[OwnQueue] = []

    def open_one(**policy: float | None) -> OwnQueue:
        given = QueuePolicy(**policy)  # type: ignore[arg-type]  # the fields' types are as varied as the policy's
        opened.append(OwnQueue.open(str(server), BlobStore.open("memory:///"), given))
        return opened[-1]

    yield open_one
    for queue in opened:
        await queue.close()


@pytest.fixture
def make_sample(model: str) -> MakeSample:
    def make(content: bytes | str, value: float = 1.0, **fields: object) -> Sample:
        image = content.encode() if isinstance(content, str) else content
        given: dict[str, object] = {
            "id": sample_id(model, image),
            "model": model,
            "version": "1",
            "content_type": "image/png",
            "reasons": ("predicted_loss",),
            "value": value,
            "predicted_loss": 0.5,
            "score": value,
            "ood_score": 0.1,
            "prediction": {"kind": "vector", "values": [1.0]},
            "flagged_at": time.time(),
            "width": 64,
            "height": 64,
        }
        return Sample(**{**given, **fields})  # type: ignore[arg-type]  # the fields' types are as varied as the sample's

    return make
