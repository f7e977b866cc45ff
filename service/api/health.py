"""Liveness, readiness and metrics. Probes and scrapers need no key for them."""

import asyncio
import logging

from fastapi import APIRouter, Response

from service.errors import Unavailable
from service.resources import Shared
from service.schemas.predictions import ErrorReply

log = logging.getLogger(__name__)

router = APIRouter(tags=["operations"])


@router.get("/v2/health/live")
async def live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/v2/health/ready", responses={503: {"model": ErrorReply}})
async def ready(shared: Shared) -> dict[str, bool]:
    """Whether to send requests here: the default model is loaded, nothing has died, and no stop was asked for."""
    if shared.draining.is_set():
        raise Unavailable("the service is stopping and takes no new clients: use another replica")
    if shared.models.live_version(shared.models.default) is None:
        raise Unavailable(f"the default model {shared.models.default} was unloaded: load it again")
    dead = [f"the engine of {version}" for version in shared.models.dead()]
    dead += [f"the {work.get_name()}" for work in shared.background if work.done()]
    if dead:
        raise Unavailable(f"{', '.join(dead)} has stopped: restart the service")
    return {"ready": True}


@router.get("/metrics", response_class=Response)
async def metrics(shared: Shared) -> Response:
    """All metrics, in Prometheus' text format."""
    names = shared.models.names  # all at once: when the server hangs, this waits for one timeout, not for one per model
    answers = await asyncio.gather(*map(shared.queue.stats, names), return_exceptions=True)
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, BaseException):  # a fault of the queue must not hide the other metrics
            log.warning("no figures of the labelling queue of %s: %s", name, answer)
            shared.metrics.queue(name, None)
        else:
            shared.metrics.queue(name, answer)
    return Response(shared.metrics.render(), headers={"content-type": shared.metrics.CONTENT_TYPE})
