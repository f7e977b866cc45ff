"""mosec: dynamic batching, as one stage or with decoding in processes of its own."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from mosec import Server, Worker

from benchmarks.serving.pipeline import Pipeline, Row
from service.inference.decode import Picture


class Decode(Worker):  # type: ignore[misc] # mosec is in an environment of its own
    def __init__(self) -> None:
        super().__init__()
        self.pipeline = Pipeline(Path(os.environ["SERVING_BUNDLE"]))

    def deserialize(self, data: bytes) -> Picture:
        return self.pipeline.decode(data)

    def forward(self, data: Picture) -> Picture:
        return data


class Infer(Worker):  # type: ignore[misc] # as above
    resp_mime_type = "application/json"

    def __init__(self) -> None:
        super().__init__()
        self.pipeline = Pipeline(Path(os.environ["SERVING_BUNDLE"]))

    def forward(self, data: Any) -> Any:
        batch = data if isinstance(data, list) else [data]
        answers = list(zip(batch, self.pipeline.infer(batch), strict=True))
        return answers if isinstance(data, list) else answers[0]

    def serialize(self, data: tuple[Picture, Row]) -> bytes:
        return self.pipeline.reply(*data)


class Whole(Infer):
    def deserialize(self, data: bytes) -> Picture:
        return self.pipeline.decode(data)


if __name__ == "__main__":
    settings = json.loads(os.environ["SERVING_SETTINGS"])
    decoders = settings.pop("decoders")
    address = ["--address", "127.0.0.1", "--port", os.environ["SERVING_PORT"]]
    sys.argv[1:] = [
        *address,
        "--log-level",
        "warning",
        "--timeout",
        "30000",
    ]  # milliseconds; 3 s fail on a busy machine
    server = Server()
    if decoders:
        server.append_worker(Decode, num=decoders, route="/predict")
    server.append_worker(Infer if decoders else Whole, route="/predict", **settings)
    server.run()
