"""POST an image, get the prediction with the loss it is about to make."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.intake import announced_bytes, read_body, source_of
from service.api.resources import RequestId, Resources, Shared
from service.errors import DeadlineExceeded, UnsupportedImage
from service.predictor import Call
from service.schemas import MAX_SOURCE, ErrorReply, PredictReply, predict_reply

router = APIRouter(tags=["predict"])

IMAGE_BODY = {
    "parameters": [
        {
            "in": "header",
            "name": "X-Source",
            "description": "The camera or client the image is from: one source cannot fill the labelling queue.",
            "schema": {"type": "string", "maxLength": MAX_SOURCE},
        },
        {
            "in": "query",
            "name": "operating_point",
            "description": "The promise that the verdict keeps, one of `operating_points` of the model; it decides too "
            "whether the image is queued. Left out: the service's own.",
            "schema": {"type": "string"},
        },
    ],
    "requestBody": {
        "required": True,
        "description": "The image itself. Its content decides what it is: JPEG, PNG or WebP.",
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in ("image/jpeg", "image/png", "image/webp")
        },
    },
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {"model": PredictReply},
    **{status: {"model": ErrorReply} for status in (400, 404, 408, 413, 415, 422, 429, 500, 503, 504)},
}


@router.post("/v1/predict", openapi_extra=IMAGE_BODY, responses=DOCUMENTED, response_class=Response)
async def predict(request: Request, shared: Shared, request_id: RequestId) -> Response:
    """Predicts with the default model."""
    return await _answer(request, shared, None, request_id)


@router.post("/v1/models/{model}/predict", openapi_extra=IMAGE_BODY, responses=DOCUMENTED, response_class=Response)
async def predict_with(model: str, request: Request, shared: Shared, request_id: RequestId) -> Response:
    """Predicts with the model named in the path."""
    return await _answer(request, shared, model, request_id)


async def _answer(request: Request, shared: Resources, model: str | None, request_id: str) -> Response:
    _check_content_type(request.headers.get("content-type", ""))
    source = source_of(request)
    with shared.models.using(model) as predictor, shared.admission.admit(announced_bytes(request, shared)):
        point = predictor.choose(request.query_params.get("operating_point"))
        body = await read_body(request, shared.settings.upload_timeout_s)
        limit_s = shared.settings.request_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                outcome = await predictor.predict(body, Call(request_id, source, point, time.monotonic() + limit_s))
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer within {limit_s:g} s: retry, or raise LOSSCAST_REQUEST_TIMEOUT_S"
            ) from error
        return Response(predict_reply(outcome, predictor.manifest), media_type="application/json")


def _check_content_type(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type and not media_type.startswith("image/") and media_type != "application/octet-stream":
        raise UnsupportedImage(
            f"Content-Type {media_type} is not an image: send the raw bytes with Content-Type image/jpeg, image/png "
            "or image/webp"
        )
