"""Inference by the Open Inference Protocol v2.

body -> `v2.request` -> `v2.images` -> each image through the line -> `v2.reply`. The protocol has no error for one
image: the first image that fails makes its request fail, and the error names it.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from models.contract.index import MAX_BATCH_SIZE
from models.contract.manifest import Manifest, Preprocessing
from service.edge.admitted import admitted
from service.errors import ServiceError
from service.inference.intake import Intake
from service.inference.outcome import Outcome
from service.predictor import Predictor
from service.resources import Shared
from service.schemas.predictions import OipError
from service.settings import Settings
from service.v2.images import images
from service.v2.reply import outputs_of, tensors, write
from service.v2.request import InferRequest, inflate, parse

router = APIRouter(tags=["open inference protocol"])

BODY = {
    "requestBody": {
        "required": True,
        "description": "An inference request: JSON, and behind it the bytes of a tensor that is binary. The input "
        "`image` is BYTES [n] (JPEG, PNG or WebP files; base64 in JSON) or UINT8 [n, height, width, channels].",
        "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}},
    },
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": OipError} for status in (400, 404, 408, 413, 415, 422, 429, 500, 503, 504)
}

PLAIN = "identity"  # the Content-Encoding of a body that is not compressed

Image = bytes | NDArray[np.uint8]  # a file, or a canvas


@router.post("/v2/models/{model}/infer", openapi_extra=BODY, responses=ERRORS, response_class=Response)
@router.post(
    "/v2/models/{model}/versions/{version}/infer", openapi_extra=BODY, responses=ERRORS, response_class=Response
)
async def infer(model: str, request: Request, shared: Shared, version: str | None = None) -> Response:
    """Predictions for one or more images, with the predicted loss of each and the verdict as the output `lossy`."""
    intake: Intake = request.state.intake
    with admitted(shared, intake, request.receive, model, version) as held:
        predictor, places = held.predictor, held.places
        body = await held.body()
        places.take(_unpacked_bytes(intake, shared.settings), images=1)
        loop = asyncio.get_running_loop()
        asked, pictures = await loop.run_in_executor(
            predictor.decoders, _read, body, intake, predictor.manifest.preprocessing, shared.settings
        )
        wanted = outputs_of(predictor.manifest, asked.outputs, binary=asked.binary)
        timeout_s = math.inf if asked.timeout_us is None else asked.timeout_us / 1e6
        intake = held.for_line(predictor.choose(asked.operating_point), timeout_s)
        places.take(images=len(pictures) - 1)  # one is held already; now their number is known
        outcomes = await held.in_time(_answer_all(predictor, pictures, intake), intake)
    answer, headers = write(
        _head(asked, predictor.manifest, intake), tensors(outcomes, predictor.manifest, wanted), wanted
    )
    return Response(answer, headers=headers)


def _read(body: bytes, intake: Intake, spec: Preprocessing, settings: Settings) -> tuple[InferRequest, Sequence[Image]]:
    """The request in a body, and its images."""
    if intake.content_encoding != PLAIN:
        body = inflate(body, intake.content_encoding, settings.max_body_bytes)
    asked = parse(body, intake.json_length)
    most = min(MAX_BATCH_SIZE, settings.max_in_flight)
    return asked, images(asked.input, spec.canvas_shape, most)


async def _answer_all(predictor: Predictor, pictures: Sequence[Image], intake: Intake) -> list[Outcome]:
    """The outcomes in order. When one fails, the others end too: nobody would get their answers."""
    try:
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(_answer(predictor, picture, intake, row)) for row, picture in enumerate(pictures)
            ]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [answer.result() for answer in answers]


async def _answer(predictor: Predictor, picture: Image, intake: Intake, row: int) -> Outcome:
    try:
        if isinstance(picture, bytes):
            return await predictor.predict(picture, intake)
        return await predictor.predict_canvas(picture, intake)
    except ServiceError as error:
        raise type(error)(f"image {row}: {error}") from error


def _head(asked: InferRequest, manifest: Manifest, intake: Intake) -> dict[str, Any]:
    """The fields of the reply beside its outputs."""
    return {
        "model_name": manifest.model,
        "model_version": manifest.version,
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": {"operating_point": intake.operating_point},
    }


def _unpacked_bytes(intake: Intake, settings: Settings) -> int:
    """The memory that a body may need beside the bytes that came: once unpacked, it may be as large as any body."""
    return 0 if intake.content_encoding == PLAIN else settings.max_body_bytes
