"""Liveness, readiness and metrics: open to probes and scrapers, without a key."""

from fastapi import APIRouter, Response

from service.api.resources import Shared
from service.errors import Unavailable
from service.schemas import ErrorReply

router = APIRouter(tags=["operations"])


@router.get("/v2/health/live")
async def live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/v2/health/ready", responses={503: {"model": ErrorReply}})
async def ready(shared: Shared) -> dict[str, bool]:
    """Every model is loaded and its workers are alive."""
    dead = [name for name, predictor in shared.predictors.items() if not predictor.batcher.alive]
    if dead:
        raise Unavailable(f"the workers of {', '.join(dead)} have stopped: restart the service")
    return {"ready": True}


@router.get("/metrics", response_class=Response)
async def metrics(shared: Shared) -> Response:
    """Everything there is to watch, in Prometheus' text format."""
    for name, predictor in shared.predictors.items():
        try:
            predictor.metrics.queue(await shared.queue.stats(name))
        except Unavailable:
            predictor.metrics.queue(None)
    return Response(shared.metrics.render(), headers={"content-type": shared.metrics.CONTENT_TYPE})
