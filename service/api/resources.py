"""What the routes work with: made by `service.app` at start, handed to each route by FastAPI."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.errors import NotFound
from service.labelling.blobs import BlobStore
from service.labelling.endings import Endings
from service.labelling.journal import Journal
from service.labelling.queue import LabelQueue
from service.metrics import Metrics
from service.predictor import Predictor
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    predictors: Mapping[str, Predictor]
    queue: LabelQueue
    endings: Endings
    blobs: BlobStore
    metrics: Metrics
    journal: Journal
    tasks: Sequence[asyncio.Task[None]]  # that must run as long as the service does

    def predictor(self, model: str | None = None) -> Predictor:
        """The line of a model, of the default model when left out. Raises NotFound."""
        name = model or self.settings.model
        if name not in self.predictors:
            raise NotFound(f"there is no model {name!r}: served here are {', '.join(self.predictors)}")
        return self.predictors[name]


def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


def _request_id(request: Request) -> str:
    request_id: str = request.state.request_id
    return request_id


Shared = Annotated[Resources, Depends(_resources)]
RequestId = Annotated[str, Depends(_request_id)]
