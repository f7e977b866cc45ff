"""What the routes work with: made by `service.app` at start, handed to each route by FastAPI."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from models.contract.manifest import is_model_name
from service.drift.monitor import Monitor
from service.errors import NotFound
from service.inference.admission import Admission
from service.labelling.endings import Endings
from service.labelling.journal.journal import Journal
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.label_queue import LabelQueue
from service.predictor import Predictor
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.versions.registry import Registry


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    models: Registry
    admission: Admission
    queue: LabelQueue
    endings: Endings
    blobs: BlobStore
    metrics: Metrics
    journal: Journal
    drift: Monitor
    tasks: Sequence[asyncio.Task[None]]  # that must run as long as the service does
    draining: asyncio.Event = field(default_factory=asyncio.Event)  # set once it is told to stop

    def predictor(self, model: str | None = None) -> Predictor:
        """The line of a model's live version, of the default model when left out. Raises NotFound."""
        return self.models.live(model)


async def queue_of(shared: Resources, model: str | None) -> str:
    """The model whose labelling queue is meant: a known one, or one that left the store and is in the queue still.

    Raises NotFound, and the errors of the queue.
    """
    name = shared.models.default if model is None else model
    if name in shared.models.names or (is_model_name(name) and (await shared.queue.stats(name))["accepted"]):
        return name
    raise NotFound(f"there is no model {name!r}: known here are {', '.join(shared.models.names)}")


# Async though they await nothing: FastAPI runs a plain function in a thread, for every request.
async def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def _request_id(request: Request) -> str:
    request_id: str = request.state.request_id
    return request_id


Shared = Annotated[Resources, Depends(_resources)]
RequestId = Annotated[str, Depends(_request_id)]
