"""The parts of the service that routes use. `service.app` makes them at start; FastAPI hands them to each route."""

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
from service.versions.probation import Probations
from service.versions.refinement_lock import RefinementLock
from service.versions.registry import Registry
from service.versions.replicas import Replicas


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    models: Registry
    replicas: Replicas
    probations: Probations
    refinement_lock: RefinementLock
    admission: Admission
    queue: LabelQueue
    endings: Endings
    blobs: BlobStore
    metrics: Metrics
    journal: Journal
    drift: Monitor
    background: Sequence[asyncio.Task[None]]  # work that must run for as long as the service does
    draining: asyncio.Event = field(default_factory=asyncio.Event)  # set when the service is asked to stop

    def predictor(self, model: str | None = None) -> Predictor:
        """The predictor of a model's live version, of the default model when left out. Raises NotFound."""
        return self.models.live(model)


async def queue_of(shared: Resources, model: str | None) -> str:
    """The model whose labelling queue a request means, the default one when left out.

    It is a known model, or one that left the store and still has samples in the queue. Raises NotFound, and the errors
    of the queue.
    """
    name = shared.models.default if model is None else model
    if name in shared.models.names or (is_model_name(name) and (await shared.queue.stats(name))["accepted"]):
        return name
    raise NotFound(f"there is no model {name!r}: known here are {', '.join(shared.models.names)}")


# Async, though it awaits nothing: FastAPI would run a plain function in a thread, for every request.
async def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


Shared = Annotated[Resources, Depends(_resources)]
