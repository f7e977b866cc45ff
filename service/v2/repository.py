"""The model repository extension: lists the bundle store, and loads and unloads models while the service runs."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from service.errors import BadRequest
from service.resources import Shared
from service.schemas.predictions import OipError
from service.v2.request import maybe, read_json, shown

router = APIRouter(
    tags=["open inference protocol"], responses={status: {"model": OipError} for status in (400, 404, 409, 503)}
)


@router.post("/v2/repository/index")
async def index(request: Request, shared: Shared) -> list[dict[str, Any]]:
    """Every model and version with its state. With `{"ready": true}`, only those that answer requests."""
    only_ready = maybe(await _fields(request), "ready", bool)
    return [asdict(one) for one in shared.models.index() if one.state == "READY" or not only_ready]


@router.post("/v2/repository/models/{model}/load", response_class=Response)
async def load(model: str, request: Request, shared: Shared) -> Response:
    """Loads the versions of a model that the bundle store names. When that fails, the served version stays."""
    await _no_parameters(request)
    await shared.models.load(model)
    return Response()


@router.post("/v2/repository/models/{model}/unload", response_class=Response)
async def unload(model: str, request: Request, shared: Shared) -> Response:
    """Takes a model out of service, once the requests that it holds are answered."""
    await _no_parameters(request, "unload_dependents")  # accepted without effect: no model here has dependents
    await shared.models.unload(model)
    return Response()


async def _fields(request: Request) -> dict[str, Any]:
    body = await request.body()
    return read_json(body) if body else {}


async def _no_parameters(request: Request, *but: str) -> None:
    for name in maybe(await _fields(request), "parameters", dict) or {}:
        if name not in but:
            raise BadRequest(
                f"parameters: {shown(name)} is not known here: the bundle store alone decides which versions are loaded"
            )
