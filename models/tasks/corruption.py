"""Corruptions that no training uses, for demonstrations and robustness checks."""

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Corruption = Literal["inversion", "occluder", "salt_and_pepper", "motion_blur"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)


def corrupt(image: NDArray[np.uint8], rng: np.random.Generator, kind: Corruption, strength: float) -> NDArray[np.uint8]:
    """image: uint8 [h, w, c] -> a corrupted copy. strength: 0 (unchanged) to 1 (hopeless).

    Raises ValueError on an unknown kind or a strength outside 0..1.
    """
    if kind not in _KINDS:
        raise ValueError(f"unknown corruption {kind!r}: choose one of {', '.join(CORRUPTIONS)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0..1, not {strength}")
    return image.copy() if strength == 0 else _KINDS[kind](image, rng, strength)


def _inversion(image: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """The negative, in a vertical band that takes `strength` of the width."""
    inverted, width = image.copy(), round(strength * image.shape[1])
    band = slice(left := int(rng.integers(0, image.shape[1] - width + 1)), left + width)
    inverted[:, band] = 255 - image[:, band]
    return inverted


def _occluder(image: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """A striped rectangle over up to nine tenths of each side."""
    covered = image.copy()
    height, width = (max(1, round(0.9 * strength * side)) for side in image.shape[:2])
    top, left = (
        int(rng.integers(0, side - part + 1)) for side, part in zip(image.shape, (height, width), strict=False)
    )
    stripes = np.where(np.arange(width) // 3 % 2, 230, 20).astype(np.uint8)
    covered[top : top + height, left : left + width] = stripes[None, :, None]
    return covered


def _salt_and_pepper(image: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """Up to six tenths of the pixels turn black or white."""
    hit = rng.random(image.shape[:2]) < 0.6 * strength
    noise = rng.choice(np.array([0, 255], np.uint8), image.shape[:2])
    return np.where(hit[..., None], noise[..., None], image)


def _motion_blur(image: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """A straight camera movement of up to half the image's width, in any direction."""
    reach = max(1, round(0.25 * strength * image.shape[1]))
    angle = rng.uniform(0, np.pi)
    ends = [(round(reach + s * reach * np.cos(angle)), round(reach + s * reach * np.sin(angle))) for s in (-1, 1)]
    kernel = cv2.line(np.zeros((2 * reach + 1, 2 * reach + 1), np.float32), ends[0], ends[1], 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum()).reshape(image.shape).astype(np.uint8, copy=False)


_KINDS = {
    "inversion": _inversion,
    "occluder": _occluder,
    "salt_and_pepper": _salt_and_pepper,
    "motion_blur": _motion_blur,
}
