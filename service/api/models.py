"""What is served: the models and what their bundles say of them."""

from typing import Any

from fastapi import APIRouter

from service.api.resources import Shared
from service.schemas import ErrorReply

router = APIRouter(tags=["models"], responses={404: {"model": ErrorReply}})


@router.get("/v1/models")
async def models(shared: Shared) -> dict[str, Any]:
    """The models served here and the default one."""
    return {"default": shared.settings.model, "models": shared.models.names}


@router.get("/v1/models/{model}")
async def model(model: str, shared: Shared) -> dict[str, Any]:
    """The manifest of the live version: task, loss, operating points, evaluation, provenance."""
    predictor = shared.predictor(model)
    manifest = predictor.manifest.model_dump(mode="json", exclude={"drift_reference"})
    return {**manifest, "operating_point": predictor.operating_point}
