"""BentoML: the raw body is the only argument, handed over as a file; each request runs by itself in a thread.

Its adaptive batching takes lists. A client would have to send them as multipart forms, or a second service make them.
"""

import json
import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from benchmarks.serving.pipeline import Pipeline

SETTINGS = json.loads(os.environ["SERVING_SETTINGS"])


@bentoml.service(
    workers=SETTINGS["workers"],
    threads=SETTINGS["threads"],
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    traffic={"timeout": 60},
)
class Forecasts:
    def __init__(self) -> None:
        self.pipeline = Pipeline(Path(os.environ["SERVING_BUNDLE"]))

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator] # BentoML is in an environment of its own
    def predict(
        self, image: Annotated[Path, ContentType("image/*")], /
    ) -> Annotated[str, ContentType("application/json")]:
        return self.pipeline(image.read_bytes()).decode()
