"""The drift report: which signals left the reference, since when, by how much, and what to do."""

from fastapi import APIRouter

from service.resources import Resources, Shared
from service.schemas.drift import DriftReport
from service.schemas.predictions import ErrorReply

router = APIRouter(tags=["drift"], responses={code: {"model": ErrorReply} for code in (404, 503)})


@router.get("/v1/drift")
async def drift(shared: Shared) -> DriftReport:
    """Of the default model's live version, over all replicas. While Redis is away: the last report, with its age."""
    return _report(shared, None)


@router.get("/v1/models/{model}/drift")
async def drift_of_model(model: str, shared: Shared) -> DriftReport:
    """Of the live version of one model."""
    return _report(shared, model)


def _report(shared: Resources, model: str | None) -> DriftReport:
    manifest = shared.models.live(model).manifest
    return shared.drift.report(manifest.model, manifest.version)
