"""The letterbox and its inverse: the image geometry that training and serving share.

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


def place(width: int, height: int, spec: Preprocessing) -> Placement:
    """Where `letterbox` puts an image of that size. Raises ValueError on a size below 1 pixel."""
    return _fit(width, height, spec)[0]


def letterbox(
    image: NDArray[np.uint8], spec: Preprocessing, reduced_by: int = 1
) -> tuple[NDArray[np.uint8], Placement]:
    """image: uint8 [h, w, channels] -> canvas uint8 [height, width, channels] and its placement.

    The image is scaled to fit, centred, and bordered with `spec.fill`. Shrinking averages areas to avoid aliasing;
    growing interpolates linearly. reduced_by: an earlier step shrank the image by this factor; the placement then
    refers to the image before it. Raises ValueError for another channel count.
    """
    height, width, channels = image.shape[0] * reduced_by, image.shape[1] * reduced_by, image.shape[2]
    if channels != spec.channels:
        raise ValueError(f"image has {channels} channels, the model takes {spec.channels}")
    placement, (left, top, new_width, new_height) = _fit(width, height, spec)
    if image.shape == spec.canvas_shape:
        return np.ascontiguousarray(image), placement
    shrinks = min(spec.height / height, spec.width / width) < 1
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    canvas = np.full(spec.canvas_shape, spec.fill, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = resized.reshape(new_height, new_width, channels)
    return canvas, placement


def _fit(width: int, height: int, spec: Preprocessing) -> tuple[Placement, tuple[int, int, int, int]]:
    """The placement, and the same in whole canvas pixels: left, top, width, height."""
    if width < 1 or height < 1:
        raise ValueError(f"an image has at least one pixel, not {width}x{height}")
    scale = min(spec.height / height, spec.width / width)
    new_height = min(max(round(height * scale), 1), spec.height)
    new_width = min(max(round(width * scale), 1), spec.width)
    top, left = (spec.height - new_height) // 2, (spec.width - new_width) // 2
    placement = Placement((new_width / width, new_height / height), (float(left), float(top)))
    return placement, (left, top, new_width, new_height)
