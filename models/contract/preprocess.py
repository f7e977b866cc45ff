"""Letterbox and its way back: the one piece of image geometry that training and serving share.

Coordinates are continuous pixels: (0, 0) is the outer corner of the first pixel, whose centre lies
at (0.5, 0.5), and (width, height) is the opposite corner of the image.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.contract.manifest import Preprocessing


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies on its canvas: canvas = image * scale + offset, in pixels, as (x, y)."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_canvas(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """points: [..., 2] in image pixels -> [..., 2] in canvas pixels."""
        return np.asarray(points, np.float64) * self.scale + self.offset

    def to_image(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """points: [..., 2] in canvas pixels -> [..., 2] in image pixels."""
        return (np.asarray(points, np.float64) - self.offset) / self.scale


def letterbox(
    image: NDArray[np.uint8], spec: Preprocessing, reduced_by: int = 1
) -> tuple[NDArray[np.uint8], Placement]:
    """image: uint8 [h, w, channels] -> canvas uint8 [height, width, channels] and its placement.

    The image is scaled to fit, centred, and bordered with `spec.fill`. Shrinking averages areas, so
    that nothing aliases; growing interpolates linearly. reduced_by: each pixel of `image` stands for a
    square of so many pixels, in which the placement then counts. Raises ValueError for another channel count.
    """
    height, width, channels = image.shape[0] * reduced_by, image.shape[1] * reduced_by, image.shape[2]
    if channels != spec.channels:
        raise ValueError(f"image has {channels} channels, the model takes {spec.channels}")
    scale = min(spec.height / height, spec.width / width)
    new_height = min(max(round(height * scale), 1), spec.height)
    new_width = min(max(round(width * scale), 1), spec.width)
    top, left = (spec.height - new_height) // 2, (spec.width - new_width) // 2
    placement = Placement((new_width / width, new_height / height), (float(left), float(top)))
    if image.shape == spec.canvas_shape:
        return np.ascontiguousarray(image), placement
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    canvas = np.full(spec.canvas_shape, spec.fill, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = resized.reshape(new_height, new_width, channels)
    return canvas, placement
