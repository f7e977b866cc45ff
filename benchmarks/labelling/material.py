"""Material for the benchmarks: distinct images of about 3 kB, and their samples."""

import itertools
import random
import struct
import time
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from models.tasks.corruption import corrupt
from models.tasks.digits import Digits
from service.labelling.samples.sample import Sample, sample_id

IMAGE_BYTES = 3000
NAMES = ("top_left", "top_right", "bottom_right", "bottom_left")
_END = 12  # bytes of a PNG's last chunk
_numbers = itertools.count()


def canvases(n: int) -> list[bytes]:
    """PNG files of the digits test split, clean ones and inverted ones in turn."""
    images = Digits().examples("test", seed=1).images[:n]
    rng = np.random.default_rng(0)
    files = []
    for number, image in enumerate(images):
        pixels = corrupt(image, rng, "inversion", 1.0) if number % 2 else image
        files.append(bytes(cv2.imencode(".png", pixels)[1].tobytes()))
    return files


def numbered(png: bytes) -> bytes:
    """The same picture in a new file: its comment holds a number."""
    content = b"tEXtnumber\0" + str(next(_numbers)).encode() + str(time.time_ns()).encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:-_END] + chunk + png[-_END:]


def images(n: int, seed: int = 0) -> Iterator[bytes]:
    """N files of IMAGE_BYTES of noise, which cannot be decoded."""
    rng = random.Random(seed)
    for _ in range(n):
        yield rng.randbytes(IMAGE_BYTES)


def samples(model: str, n: int, start: int = 0) -> Iterator[Sample]:
    """Samples like those that the digits model flags, with random values and without images."""
    rng = random.Random(f"{model} {start}")
    for number in range(start, start + n):
        yield sample(model, f"{model} {number}".encode(), rng.expovariate(1.0))


def sample(model: str, image: bytes, value: float) -> Sample:
    points = [[round(20.0 + value, 3), round(30.0 + value, 3)] for _ in NAMES]
    return Sample(
        id=sample_id(model, image),
        model=model,
        version="1",
        content_type="image/png",
        reasons=("predicted_loss",),
        value=value,
        predicted_loss=value,
        score=value,
        ood_score=0.5,
        prediction={"kind": "keypoints", "names": list(NAMES), "values": points, "predicted_loss": None},
        flagged_at=time.time(),
        width=64,
        height=64,
        bytes=IMAGE_BYTES,
    )
