"""Traffic for the digits model: clean and blurred canvases, bodies that are no images, and an annotator."""

import itertools
from collections.abc import Iterator

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from models.tasks.digits import Digits
from service.client import LosscastClient

MODEL = "digits"
BLUR_SD_PX = 2.0
ANNOTATOR = "annotator"
PNG = {"content-type": "image/png"}


def clean(seed: int = 1000) -> Iterator[bytes]:
    """Endless PNG files of canvases as the model knows them: its test digits, placed differently each time."""
    task = Digits()
    for number in itertools.count(seed):
        for image in task.examples("test", seed=number).images:
            yield _png(image)


def blurred(seed: int = 2000) -> Iterator[bytes]:
    """Such canvases, as a lens out of focus would take them."""
    task = Digits()
    for number in itertools.count(seed):
        for image in task.examples("test", seed=number).images:
            yield _png(cv2.GaussianBlur(image, (0, 0), BLUR_SD_PX))


def post(http: httpx.Client, image: bytes) -> None:
    http.post(f"/v1/models/{MODEL}/predict", content=image, headers=PNG).raise_for_status()


def post_what_is_refused(http: httpx.Client) -> None:
    """One request of each kind of common mistakes."""
    path = f"/v1/models/{MODEL}/predict"
    broken = _png(np.zeros((8, 8, 1), np.uint8))[:60]
    answers = [
        http.post(path, content=b"", headers=PNG),
        http.post(path, content=broken, headers=PNG),
        http.post(path, content=b"no image", headers={"content-type": "text/plain"}),
        http.post("/v1/models/nobody/predict", content=broken, headers=PNG),
    ]
    assert all(answer.is_client_error for answer in answers)  # noqa: S101


def label(client: LosscastClient, n: int) -> int:
    """Leases up to n samples and labels each with its prediction. Returns their number."""
    samples = client.lease(n, model=MODEL, annotator=ANNOTATOR).samples
    for sample in samples:
        client.label(sample, sample.prediction.values)
    return len(samples)


def _png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image)[1].tobytes())
