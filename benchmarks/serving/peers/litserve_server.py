"""LitServe: raw bodies, dynamic batching, and its fast queue as a setting."""

import json
import os
from pathlib import Path
from typing import Annotated

import litserve
from fastapi import Body, Response

from benchmarks.serving.pipeline import Pipeline, Row
from service.inference.decode import Picture

Answer = tuple[Picture, Row]


class Api(litserve.LitAPI):  # type: ignore[misc] # LitServe is in an environment of its own
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.pipeline = Pipeline(Path(os.environ["SERVING_BUNDLE"]))

    def decode_request(self, request: Annotated[bytes, Body()]) -> Picture:
        return self.pipeline.decode(request)

    def batch(self, inputs: list[Picture]) -> list[Picture]:
        return inputs

    def predict(self, x: Picture | list[Picture]) -> Answer | list[Answer]:
        batch = x if isinstance(x, list) else [x]
        answers = list(zip(batch, self.pipeline.infer(batch), strict=True))
        return answers if isinstance(x, list) else answers[0]

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        return output

    def encode_response(self, output: Answer) -> Response:
        return Response(self.pipeline.reply(*output), media_type="application/json")


if __name__ == "__main__":
    settings = json.loads(os.environ["SERVING_SETTINGS"])
    api = Api(max_batch_size=settings["max_batch_size"], batch_timeout=settings["batch_timeout"], api_path="/predict")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=settings["workers"], fast_queue=settings["fast_queue"]
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["SERVING_PORT"]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
