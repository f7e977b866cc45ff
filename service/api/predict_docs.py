"""What /openapi.json and /docs say of predictions; `service.edge.predict` answers them in front of the router."""

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
            "description": "The camera or client the image is from: one source cannot fill the labelling queue.",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_SOURCE},
        },
        {
            "in": "header",
            "name": "X-Request-Timeout-Ms",
            "description": "How long an answer is of use, from the arrival of the request: after it, 504, and nothing "
            "more is computed. At most, and when left out, what the service allows.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
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
        "description": "The image itself: its content decides what it is, JPEG, PNG or WebP. Or several, as the parts "
        f"of a form named `image`, at most {MAX_IMAGES}: answered in order, each with its own reply or error.",
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
    """Predicts with a version that is loaded beside the live one: the previous or the shadow one."""
