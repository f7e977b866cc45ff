"""What the drift monitor is shown: canvases of the digits task as files, clean ones and then blurred ones.

The model is the shipped one, under `SETTINGS`. `post` sends canvases to one service, or deals them out over
several, and `seen` waits for the report that has them all.
"""

import io
from collections.abc import Sequence
from functools import cache
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import stamina
from numpy.typing import NDArray
from PIL import Image

from models.tasks.digits import Digits
from service.client import LosscastClient
from service.schemas.drift import DriftReport

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
FORM = 25  # images in one request
BLUR = 2.0  # standard deviation of the blur, in pixels
VIEWS = 8  # of each digit

SETTINGS = {"LOSSCAST_MODEL": "digits", "LOSSCAST_MODELS": "digits", "LOSSCAST_DRIFT_FLUSH_S": "0.2"}


@cache
def clean(n: int, seed: int = 5) -> list[bytes]:
    """PNG files of digits that neither the model nor its references have seen."""
    return [_png(image) for image in _canvases(n, seed)]


@cache
def blurred(n: int, seed: int = 6) -> list[bytes]:
    return [
        _png(np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR), np.uint8).reshape(image.shape))
        for image in _canvases(n, seed)
    ]


def post(clients: Sequence[LosscastClient], bodies: Sequence[bytes]) -> None:
    """Sends the files, FORM at a time, to the services in turn."""
    for client, first in zip(cycle(clients), range(0, len(bodies), FORM)):
        client.predict_many(bodies[first : first + FORM])


def seen(client: LosscastClient, n: int) -> DriftReport:
    """The report, once it has that many images."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.1):
        with attempt:
            report = client.drift()
            assert report.observations == n
    return report


def _canvases(n: int, seed: int) -> list[NDArray[np.uint8]]:
    examples = Digits().examples("test", VIEWS, seed)
    chosen = np.random.default_rng(seed).permutation(len(examples))[:n]
    return [examples.images[i] for i in chosen]


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()
