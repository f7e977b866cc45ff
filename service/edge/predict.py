"""POST an image, get the prediction and the loss that the model is about to make.

This is plain ASGI in front of the router: routing, dependencies and response objects would cost more than a small model
does. The middleware looks after errors, keys, limits and counts, as for every other path. `api.predict_docs` declares
the documentation.
"""

import asyncio
from typing import Final, NamedTuple

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.admitted import admitted
from service.edge.headers import form_boundary, operating_point
from service.edge.multipart import images_of
from service.errors import ServiceError
from service.inference.intake import Intake
from service.predictor import Predictor
from service.resources import Resources
from service.schemas.predictions import error_object, predict_reply
from service.telemetry.metrics import Metrics

PATH, NAMED_PATH = "/v1/predict", "/v1/models/{model}/predict"
VERSION_PATH = "/v1/models/{model}/versions/{version}/predict"
MAX_IMAGES: Final = 64  # of one form
JSON = (b"content-type", b"application/json")


class Endpoint(NamedTuple):
    """Stands in scope["route"], as a route of the router does: requests are counted under its path."""

    path: str


DEFAULT, NAMED, VERSION = Endpoint(PATH), Endpoint(NAMED_PATH), Endpoint(VERSION_PATH)


class Predict:
    """Answers requests for predictions, and hands all others on to `app`."""

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
    shared: Resources = scope["app"].state.resources
    intake: Intake = scope["state"]["intake"]
    boundary = form_boundary(intake)
    with admitted(shared, intake, receive, model, version) as request:
        predictor, places = request.predictor, request.places
        point = predictor.choose(operating_point(intake))
        body = await request.body()
        intake = request.for_line(point)
        if boundary is None:
            places.take(images=1)
            outcome = await request.in_time(predictor.predict(body, intake), intake)
            reply = predict_reply(outcome, predictor.manifest)
        else:
            images = images_of(body, boundary, min(MAX_IMAGES, shared.settings.max_in_flight))
            places.take(images=len(images))
            reply = await request.in_time(_predict_each(predictor, images, intake, shared.metrics), intake)
    headers = [JSON, (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})


async def _predict_each(predictor: Predictor, images: list[bytes], intake: Intake, metrics: Metrics) -> bytes:
    """The body of a ManyReply. An image that cannot be answered gets an error; the others are answered."""

    async def one(image: bytes) -> orjson.Fragment:
        try:
            return orjson.Fragment(predict_reply(await predictor.predict(image, intake), predictor.manifest))
        except ServiceError as error:
            metrics.rejected(error.code)
            return orjson.Fragment(error_object(error, intake.request_id))

    async with asyncio.TaskGroup() as group:  # when a bug ends one, the others end too: none runs on without its places
        answers = [group.create_task(one(image)) for image in images]
    return orjson.dumps({"results": [answer.result() for answer in answers]})
