"""Inference by the Open Inference Protocol v2.

Body -> `oip.request` -> `oip.images` -> each image through the line -> `oip.model` -> `oip.reply`. The protocol has no
error of one image: the first that fails fails its request, and is named.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from starlette.datastructures import Headers

from models.contract.index import MAX_BATCH_SIZE
from service.edge.headers import announced_bytes, source_of
from service.edge.waiting import in_time, time_allowed_s, whole_body
from service.errors import ServiceError
from service.inference.outcome import Outcome
from service.predictor import Call, Predictor
from service.resources import RequestId, Shared
from service.schemas.predictions import OipError
from service.settings import Settings
from service.v2.images import images
from service.v2.metadata import outputs_of, tensors
from service.v2.reply import write
from service.v2.request import InferRequest, inflate, parse

router = APIRouter(tags=["open inference protocol"])

BODY = {
    "requestBody": {
        "required": True,
        "description": "An inference request; behind its JSON the bytes of the tensor, where that is binary. The input "
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
async def infer(
    model: str, request: Request, shared: Shared, request_id: RequestId, version: str | None = None
) -> Response:
    """Predictions for one or more images, with the predicted loss of each and the verdict as the output `lossy`."""
    settings = shared.settings
    source = source_of(request.scope)
    allowed_s = time_allowed_s(_raw_header(request, b"x-request-timeout-ms"), settings.request_timeout_s)
    deadline = None if allowed_s is None else time.monotonic() + allowed_s
    announced = announced_bytes(request.scope, shared)
    with shared.models.using(model, version) as line, shared.admission.request(announced) as places:
        body = await whole_body(request.receive, settings.upload_timeout_s, deadline, places.take)
        places.take(_unpacked_bytes(request, settings), images=1)
        latest = time.monotonic() + settings.request_timeout_s if deadline is None else deadline
        loop = asyncio.get_running_loop()
        asked, pictures = await loop.run_in_executor(line.decoders, _read, body, request.headers, line, settings)
        wanted = outputs_of(line.manifest, asked.outputs, binary=asked.binary)
        if asked.timeout_us is not None:
            latest = min(latest, time.monotonic() + asked.timeout_us / 1e6)
        call = Call(request_id, source, line.choose(asked.operating_point), latest)
        places.take(images=len(pictures) - 1)  # now that it is known how many there are
        outcomes = await in_time(_answer_all(line, pictures, call), request.receive, latest)
    answer, headers = write(_head(asked, line, call), tensors(outcomes, line.manifest, wanted), wanted)
    return Response(answer, headers=headers)


def _read(body: bytes, headers: Headers, line: Predictor, settings: Settings) -> tuple[InferRequest, Sequence[Image]]:
    if (encoding := headers.get("content-encoding", PLAIN)) != PLAIN:
        body = inflate(body, encoding, settings.max_body_bytes)
    asked = parse(body, headers.get("inference-header-content-length"))
    most = min(MAX_BATCH_SIZE, settings.max_in_flight)
    return asked, images(asked.input, line.manifest.preprocessing.canvas_shape, most)


async def _answer_all(line: Predictor, pictures: Sequence[Image], call: Call) -> list[Outcome]:
    """In order. One that fails ends the others, whose answers nobody would get."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_answer(line, picture, call, row)) for row, picture in enumerate(pictures)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _answer(line: Predictor, picture: Image, call: Call, row: int) -> Outcome:
    try:
        if isinstance(picture, bytes):
            return await line.predict(picture, call)
        return await line.predict_canvas(picture, call)
    except ServiceError as error:
        raise type(error)(f"image {row}: {error}") from error


def _head(asked: InferRequest, line: Predictor, call: Call) -> dict[str, Any]:
    return {
        "model_name": line.manifest.model,
        "model_version": line.manifest.version,
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": {"operating_point": call.operating_point},
    }


def _unpacked_bytes(request: Request, settings: Settings) -> int:
    """What is compressed may be as large as any body once it is unpacked."""
    return settings.max_body_bytes if request.headers.get("content-encoding", PLAIN) != PLAIN else 0


def _raw_header(request: Request, name: bytes) -> bytes | None:
    return next((value for key, value in request.scope["headers"] if key == name), None)
