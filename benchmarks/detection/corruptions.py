"""Corruptions of photographs that no training uses, each at five strengths; only cv2 and numpy.

canvases uint8 [n, h, w, 3] and their targets -> the same, corrupted. Trunks are trained with rotations up to 45 degrees
and flat cut-outs, so rotation here begins at 60 degrees and patches have texture. Kind and strength seed the generator:
the same canvases are corrupted in the same way for every trunk.
"""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Points = NDArray[np.float32]  # [n, k, 2]
STRENGTHS = (1, 2, 3, 4, 5)
FILL = 114  # grey beyond the edges, as in training


def spoil(images: Image, targets: Points, kind: str, strength: int) -> tuple[Image, Points]:
    """images: uint8 [n, h, w, 3]; targets: [n, k, 2] in pixels; only `rotation` moves them.

    Raises ValueError on an unknown kind or strength.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown corruption {kind!r}: choose one of {', '.join(KINDS)}")
    if strength not in STRENGTHS:
        raise ValueError(f"the strength is one of {STRENGTHS}, not {strength}")
    rng = np.random.default_rng([KINDS.index(kind), strength])
    if kind == "rotation":
        return _turn(images, targets, strength, rng)
    spoilt = [_APPEARANCE[kind](image, strength, rng) for image in images]
    return np.stack([np.clip(one, 0, 255).astype(np.uint8) for one in spoilt]), targets


def _turn(images: Image, targets: Points, strength: int, rng: np.random.Generator) -> tuple[Image, Points]:
    """Turns each image left or right by 60, 90, 120, 150 or 180 degrees."""
    height, width = images.shape[1:3]
    turned, moved = np.empty_like(images), np.empty_like(targets)
    for row, sign in enumerate(rng.choice((-1, 1), len(images))):
        # Pixel i covers i to i + 1 in targets, but lies at i for OpenCV.
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(sign * (30 + 30 * strength)), 1.0)
        shifted = matrix @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]) - np.array([[0, 0, 0.5], [0, 0, 0.5]])
        turned[row] = cv2.warpAffine(images[row], shifted, (width, height), borderValue=(FILL, FILL, FILL))
        moved[row] = targets[row] @ matrix[:, :2].T + matrix[:, 2]
    return turned, moved


def _blur(image: Image, strength: int, rng: np.random.Generator) -> NDArray[Any]:
    del rng
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8 * strength))


def _noise(image: Image, strength: int, rng: np.random.Generator) -> NDArray[Any]:
    return np.asarray(image + rng.normal(0, 14 * strength, image.shape))


def _jpeg(image: Image, strength: int, rng: np.random.Generator) -> NDArray[Any]:
    del rng
    quality = (30, 18, 11, 7, 4)[strength - 1]
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]


def _night(image: Image, strength: int, rng: np.random.Generator) -> NDArray[Any]:
    """Little blue light, with the noise of a sensor."""
    light = (0.4, 0.28, 0.18, 0.11, 0.06)[strength - 1]
    photons = 60 * light * (image / 255) ** 1.4 * np.array([0.8, 0.9, 1.1])
    return np.asarray(rng.poisson(np.maximum(photons, 0)) * (255 / 60) + rng.normal(0, 2, image.shape))


def _occlusion(image: Image, strength: int, rng: np.random.Generator) -> NDArray[Any]:
    """Three patches of texture; their side is from a sixth to a half of the canvas."""
    spoilt = image.copy()
    side = round(image.shape[0] * (0.1 + 0.08 * strength))
    for _ in range(3):
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
        spoilt[top : top + side, left : left + side] = _texture(side, rng)
    return spoilt


def _foreign(image: Image, strength: int, rng: np.random.Generator) -> NDArray[Any]:
    """Limbs of nobody: coloured sticks with a blob at one end, two for each step of strength."""
    spoilt = image.copy()
    height, width = image.shape[:2]
    for _ in range(2 * strength):
        start, end = ((int(rng.integers(0, width)), int(rng.integers(0, height))) for _ in range(2))
        colour = tuple(int(one) for one in rng.integers(0, 256, 3))
        cv2.line(spoilt, start, end, colour, int(rng.integers(4, 12)), cv2.LINE_AA)
        cv2.circle(spoilt, end, int(rng.integers(4, 10)), colour, -1, cv2.LINE_AA)
    return spoilt


def _texture(side: int, rng: np.random.Generator) -> Image:
    """Stripes of two colours with noise, in any direction."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 16)
    rows, columns = np.mgrid[:side, :side]
    wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / period)[..., None]
    one, other = rng.integers(0, 256, (2, 3))
    painted = np.where(wave > 0, one, other) + rng.normal(0, 12, (side, side, 3))
    return np.asarray(np.clip(painted, 0, 255).astype(np.uint8))


_APPEARANCE: Mapping[str, Callable[[Image, int, np.random.Generator], NDArray[Any]]] = {
    "blur": _blur,
    "noise": _noise,
    "JPEG": _jpeg,
    "night": _night,
    "occlusion": _occlusion,
    "foreign object": _foreign,
}
KINDS = (*_APPEARANCE, "rotation")
