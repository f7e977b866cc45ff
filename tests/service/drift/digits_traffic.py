"""Traffic for the shipped digits model: clean and blurred canvases as PNG files, and how to post them."""

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

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"
FORM = 25  # images in one request
BLUR = 2.0  # standard deviation of the blur, in pixels

SETTINGS = {"LOSSCAST_MODEL": "digits", "LOSSCAST_MODELS": "digits", "LOSSCAST_DRIFT_FLUSH_S": "0.2"}


@cache
def clean(views: int, seed: int = 5) -> list[bytes]:
    """PNG files of digits that neither the model nor its references have seen: so many views of each test digit."""
    return [_png(image) for image in _canvases(views, seed)]


@cache
def blurred(views: int, seed: int = 6) -> list[bytes]:
    """Such files, as a lens that is out of focus would take them."""
    canvases = _canvases(views, seed)
    blurs = (np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR), np.uint8) for image in canvases)
    return [_png(blur.reshape(image.shape)) for image, blur in zip(canvases, blurs, strict=True)]


def post(clients: Sequence[LosscastClient], bodies: Sequence[bytes]) -> None:
    """Posts the files, FORM at a time, to the services in turn."""
    for client, first in zip(cycle(clients), range(0, len(bodies), FORM)):
        client.predict_many(bodies[first : first + FORM])


def report_of(client: LosscastClient, n: int) -> DriftReport:
    """The drift report, once it has n images."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.1):
        with attempt:
            report = client.drift()
            assert report.observations == n
    return report


def _canvases(views: int, seed: int) -> list[NDArray[np.uint8]]:
    examples = Digits().examples("test", views, seed)
    order = np.random.default_rng(seed).permutation(len(examples))
    return [examples.images[i] for i in order]


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()
