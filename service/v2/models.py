"""The server, its models and versions, and their statistics, by the Open Inference Protocol v2."""

import importlib.metadata
from typing import Any

from fastapi import APIRouter

from service.errors import Unavailable
from service.resources import Resources, Shared
from service.schemas.predictions import OipError
from service.v2.metadata import configuration, metadata

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")

router = APIRouter(tags=["open inference protocol"], responses={status: {"model": OipError} for status in (404, 503)})


@router.get("/v2")
async def server() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "losscast", "version": importlib.metadata.version("losscast"), "extensions": EXTENSIONS}


@router.get("/v2/models/stats")
async def all_statistics(shared: Shared) -> dict[str, Any]:
    """The statistics of every version of every model."""
    ready = [state for state in shared.models.index() if state.state == "READY"]
    return {"model_stats": [_version_statistics(shared, state.name, state.version) for state in ready]}


@router.get("/v2/models/{model}")
@router.get("/v2/models/{model}/versions/{version}")
async def describe(model: str, shared: Shared, version: str | None = None) -> dict[str, Any]:
    """The inputs and outputs of a model, and the versions that answer requests."""
    with shared.models.using(model, version) as predictor:
        return metadata(predictor.manifest, _versions(shared, model))


@router.get("/v2/models/{model}/config")
@router.get("/v2/models/{model}/versions/{version}/config")
async def config(model: str, shared: Shared, version: str | None = None) -> dict[str, Any]:
    """The config.pbtxt of a model, as JSON."""
    with shared.models.using(model, version) as predictor:
        return configuration(predictor.manifest, _versions(shared, model))


@router.get("/v2/models/{model}/stats")
@router.get("/v2/models/{model}/versions/{version}/stats")
async def statistics(model: str, shared: Shared, version: str | None = None) -> dict[str, Any]:
    """The statistics of a model, by version."""
    return {"model_stats": _statistics(shared, model, version)}


@router.get("/v2/models/{model}/ready")
@router.get("/v2/models/{model}/versions/{version}/ready")
async def ready(model: str, shared: Shared, version: str | None = None) -> dict[str, Any]:
    """Whether a model answers requests."""
    with shared.models.using(model, version) as predictor:
        if not predictor.batcher.alive:
            raise Unavailable(f"the engine of {model} has stopped: restart the service")
        return {"name": model, "ready": True}


def _statistics(shared: Resources, model: str, version: str | None) -> list[dict[str, Any]]:
    versions = _versions(shared, model) if version is None else [version]
    if not versions:
        shared.predictor(model)  # raises the reason why there is none
    return [_version_statistics(shared, model, one) for one in versions]


def _version_statistics(shared: Resources, model: str, version: str) -> dict[str, Any]:
    with shared.models.using(model, version) as predictor:
        return {"name": model, "version": version, **predictor.metrics.triton_statistics.read()}


def _versions(shared: Resources, model: str) -> list[str]:
    """The versions of a model that answer requests."""
    return [state.version for state in shared.models.index() if state.name == model and state.state == "READY"]
