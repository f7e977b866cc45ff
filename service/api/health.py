"""Liveness, readiness and metrics: open to probes and scrapers, without a key."""

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
    """Send requests here: the default model is loaded, all lines and what works behind them live, no stop was asked."""
    if shared.draining.is_set():
        raise Unavailable("the service was told to stop and takes no new clients: use another replica")
    if shared.models.live_version(shared.models.default) is None:
        raise Unavailable(f"the default model {shared.models.default} was unloaded: load it again")
    dead = [f"the engine of {version}" for version in shared.models.dead()]
    dead += [f"the {work.get_name()}" for work in shared.background if work.done()]
    if dead:
        raise Unavailable(f"{', '.join(dead)} has stopped: restart the service")
    return {"ready": True}


@router.get("/metrics", response_class=Response)
async def metrics(shared: Shared) -> Response:
    """Everything there is to watch, in Prometheus' text format."""
    names = shared.models.names  # at once: a server that hangs costs one timeout, not one for each model
    answers = await asyncio.gather(*map(shared.queue.stats, names), return_exceptions=True)
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, BaseException):  # whatever ails the queue must not hide the other metrics
            log.warning("no figures of the labelling queue of %s: %s", name, answer)
            shared.metrics.queue(name, None)
        else:
            shared.metrics.queue(name, answer)
    return Response(shared.metrics.render(), headers={"content-type": shared.metrics.CONTENT_TYPE})
