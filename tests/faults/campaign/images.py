"""Images that the tiny model of tests/conftest.py takes for lossy: all distinct, of many values, and repeatable."""

import io
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

OOD_SHARE = 0.05  # so dark that only their OOD score flags them


def lossy_images(seed: int) -> Iterator[bytes]:
    """PNG files of 8x8 pixels; the first four pixels number them, and seeds differ in the next four."""
    rng = random.Random(seed)
    for number in range(2**32):
        grey = rng.uniform(0, 0.02) if rng.random() < OOD_SHARE else rng.uniform(0.65, 1)
        pixels = np.full((8, 8), round(grey * 255), np.uint8)
        pixels.flat[:8] = np.frombuffer(number.to_bytes(4, "little") + (seed % 2**32).to_bytes(4, "little"), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        yield file.getvalue()
