"""The models that are served, their versions, and the content of their manifests."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from service.resources import Resources, Shared
from service.schemas.predictions import ErrorReply

router = APIRouter(tags=["models"], responses={code: {"model": ErrorReply} for code in (404, 503)})


@router.get("/v1/models")
async def models(shared: Shared) -> dict[str, Any]:
    """The known models, with the states of their versions and the live version of each."""
    return {"default": shared.models.default, "models": [_summary(shared, name) for name in shared.models.names]}


@router.get("/v1/models/{model}")
async def model(model: str, shared: Shared) -> dict[str, Any]:
    """The live version's manifest (task, loss, operating points, evaluation) and tuning, and all versions' states."""
    loaded = shared.models.loaded(model)
    return {
        **loaded.predictor.manifest.model_dump(mode="json", exclude={"drift_reference", "embedding_reference"}),
        "operating_point": loaded.predictor.operating_point,
        "tuning": asdict(loaded.tuning),
        "versions": _versions(shared, model),
    }


def _summary(shared: Resources, name: str) -> dict[str, Any]:
    return {"name": name, "live": shared.models.live_version(name), "versions": _versions(shared, name)}


def _versions(shared: Resources, name: str) -> list[dict[str, Any]]:
    return [
        {"version": state.version, "state": state.state, "reason": state.reason}
        for state in shared.models.index()
        if state.name == name
    ]
