"""Predictions in /openapi.json and /docs. `service.edge.predict` answers them, in front of the router."""

from typing import Any

from fastapi import APIRouter

from service.edge.multipart import FORM
from service.edge.predict import MAX_IMAGES, NAMED_PATH, PATH, VERSION_PATH
from service.schemas.predictions import MAX_SOURCE, ErrorReply, ManyReply, PredictReply

router = APIRouter(tags=["predict"])

BINARY = {"type": "string", "format": "binary"}
REQUEST: dict[str, Any] = {
    "parameters": [
        {
            "in": "header",
            "name": "X-Source",
            "description": "The camera or client that the image is from. One source cannot fill the labelling queue.",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_SOURCE},
        },
        {
            "in": "header",
            "name": "X-Request-Timeout-Ms",
            "description": "How long you wait for the answer, from the arrival of the request. After that the reply is "
            "504, and nothing more is computed. The service's own limit holds as well.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        },
        {
            "in": "query",
            "name": "operating_point",
            "description": "The promise that the verdict keeps: one of the model's `operating_points`. It also decides "
            "whether the image is queued. When left out, the service's own is used.",
            "schema": {"type": "string"},
        },
    ],
    "requestBody": {
        "required": True,
        "description": "The image itself: a JPEG, PNG or WebP file, recognised by its content. Or up to "
        f"{MAX_IMAGES} images, as parts of a form named `image`: each gets its own reply or error, in the same order.",
        "content": {
            **{media_type: {"schema": BINARY} for media_type in ("image/jpeg", "image/png", "image/webp")},
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "array", "items": BINARY, "minItems": 1, "maxItems": MAX_IMAGES}},
                    "required": ["image"],
                }
            },
        },
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": PredictReply | ManyReply, "description": "PredictReply; ManyReply for a form."},
    **{status: {"model": ErrorReply} for status in (400, 404, 408, 413, 415, 422, 429, 500, 503, 504)},
}


@router.post(PATH, openapi_extra=REQUEST, responses=RESPONSES)
async def predict() -> None:
    """Predicts with the default model."""


@router.post(NAMED_PATH, openapi_extra=REQUEST, responses=RESPONSES)
async def predict_with(model: str) -> None:
    """Predicts with the live version of the model named in the path."""


@router.post(VERSION_PATH, openapi_extra=REQUEST, responses=RESPONSES)
async def predict_with_version(model: str, version: str) -> None:
    """Predicts with a version that is loaded beside the live one: the previous one or the shadow."""
