"""POST an image, get the prediction with the loss it is about to make.

Answered in front of the router, as plain ASGI: routing, dependencies and responses would cost more than a
small model does. Errors, keys, limits and counts are the edge's, as for every other path; the
documentation is declared in `predict_docs`.
"""

import asyncio
import time
from typing import Final, NamedTuple
from urllib.parse import parse_qs

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.headers import announced_bytes, source_of
from service.edge.multipart import boundary_of, images_of
from service.edge.waiting import in_time, time_allowed_s, whole_body
from service.errors import ServiceError, UnsupportedImage
from service.predictor import Call, Predictor
from service.resources import Resources
from service.schemas.predictions import error_object, predict_reply
from service.telemetry.metrics import Metrics

PATH, NAMED_PATH = "/v1/predict", "/v1/models/{model}/predict"
VERSION_PATH = "/v1/models/{model}/versions/{version}/predict"
MAX_IMAGES: Final = 64  # of one form
JSON_HEADERS = [(b"content-type", b"application/json")]


class Endpoint(NamedTuple):
    """In scope["route"] for the edge's count, as the router's own routes."""

    path: str


DEFAULT, NAMED, VERSION = Endpoint(PATH), Endpoint(NAMED_PATH), Endpoint(VERSION_PATH)


class Predict:
    """Answers predictions; hands all else on to `app`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "POST" or not path.endswith("/predict"):
            await self._app(scope, receive, send)
            return
        match path.split("/"):
            case ["", "v1", "predict"]:
                scope["route"], model, version = DEFAULT, None, None
            case ["", "v1", "models", model, "predict"]:
                scope["route"], version = NAMED, None
            case ["", "v1", "models", model, "versions", version, "predict"]:
                scope["route"] = VERSION
            case _:
                await self._app(scope, receive, send)
                return
        await _answer(scope, receive, send, model, version)


async def _answer(scope: Scope, receive: Receive, send: Send, model: str | None, version: str | None) -> None:
    arrived_at = time.monotonic()
    shared: Resources = scope["app"].state.resources
    settings = shared.settings
    headers = dict(scope["headers"])
    boundary = _boundary(headers.get(b"content-type", b"").decode("latin-1"))
    source = source_of(scope)
    allowed_s = time_allowed_s(headers.get(b"x-request-timeout-ms"), settings.request_timeout_s)
    deadline = None if allowed_s is None else arrived_at + allowed_s
    announced = announced_bytes(scope, shared)
    with shared.models.using(model, version) as predictor, shared.admission.request(announced) as places:
        point = predictor.choose(_operating_point(scope["query_string"]))
        body = await whole_body(receive, settings.upload_timeout_s, deadline, places.take)
        if deadline is None:
            deadline = time.monotonic() + settings.request_timeout_s
        call = Call(scope["state"]["request_id"], source, point, deadline)
        if boundary is None:
            places.take(images=1)
            reply = predict_reply(await in_time(predictor.predict(body, call), receive, deadline), predictor.manifest)
        else:
            images = images_of(body, boundary, min(MAX_IMAGES, settings.max_in_flight))
            places.take(images=len(images))
            reply = await in_time(_predict_each(predictor, images, call, shared.metrics), receive, deadline)
    await send({"type": "http.response.start", "status": 200, "headers": [*JSON_HEADERS, _length(reply)]})
    await send({"type": "http.response.body", "body": reply})


async def _predict_each(predictor: Predictor, images: list[bytes], call: Call, metrics: Metrics) -> bytes:
    """The body of a ManyReply: an image that cannot be answered costs no other its answer."""

    async def one(image: bytes) -> orjson.Fragment:
        try:
            return orjson.Fragment(predict_reply(await predictor.predict(image, call), predictor.manifest))
        except ServiceError as error:
            metrics.rejected(error.code)
            return orjson.Fragment(error_object(error, call.request_id))

    async with asyncio.TaskGroup() as group:  # a bug in one answer ends the others: none goes on without its places
        answers = [group.create_task(one(image)) for image in images]
    return orjson.dumps({"results": [answer.result() for answer in answers]})


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


def _operating_point(query: bytes) -> str | None:
    if not query:
        return None
    return parse_qs(query.decode("latin-1"), keep_blank_values=True).get("operating_point", [None])[-1]


def _boundary(content_type: str) -> bytes | None:
    """Of a form; None for a body that is an image itself."""
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type or media_type.startswith("image/") or media_type == "application/octet-stream":
        return None
    boundary = boundary_of(content_type)
    if boundary is None:
        raise UnsupportedImage(
            f"Content-Type {media_type} is not an image: send the raw bytes with Content-Type image/jpeg, image/png "
            "or image/webp, or several images as multipart/form-data"
        )
    return boundary
