"""The signals of each input that are watched for drift, defined once for the references and for the service.

The scores come from the ONNX. The five image signals come from the canvas and the size of the image as posted, which
both sides know. A little noise makes every signal continuous, far below any change that matters: ranks are then exact
also where many inputs share a value, such as images of one size.
"""

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Signal = Literal["score", "ood_score", "luminance", "contrast", "sharpness", "aspect", "size"]
SIGNALS: Final[tuple[Signal, ...]] = ("score", "ood_score", "luminance", "contrast", "sharpness", "aspect", "size")
IMAGE_SIGNALS: Final = SIGNALS[2:]
GREEN: Final = 1  # of three channels: it dominates perceived brightness, and one channel costs a third
GRID: Final = 32  # about this many rows and columns of a canvas are read, at any canvas size
STILL: Final = 1.0  # added to the sharpness before its logarithm: about the value from rounding to whole grey levels


def image_signals(canvases: NDArray[np.uint8], sizes: NDArray[np.integer]) -> NDArray[np.float64]:
    """canvases: uint8 [n, height, width, channels]; sizes: whole numbers [n, 2], width and height of the images as
    posted, upright, in pixels -> float64 [n, 5], a column for each of `IMAGE_SIGNALS`.

    luminance  mean grey level, 0 to 255; of three channels the green one stands for grey, here and below
    contrast   standard deviation of the grey levels
    sharpness  log(1 + mean squared Laplacian) of the middle half, away from the borders of the letterbox
    aspect     log(width / height)
    size       log(width * height) / 2, of pixels

    A canvas is read in even steps: about 32 x 32 pixels, and for the sharpness about 16 x 16, each with its four
    neighbours. One core takes about 7 us an image of 192 x 192 x 3 in batches of 32, and 5 us one of
    64 x 64 x 1. Raises ValueError on shapes that do not fit and on a size below 1 pixel.
    """
    n = len(canvases)
    if canvases.ndim != 4 or np.shape(sizes) != (n, 2):  # noqa: PLR2004 - n, height, width, channels
        raise ValueError(f"canvases {list(canvases.shape)} need sizes [{n}, 2], not {list(np.shape(sizes))}")
    sides = np.asarray(sizes, np.float64)
    if n and sides.min() < 1:
        raise ValueError("an image has a width and a height of at least one pixel")
    grey = canvases[..., GREEN if canvases.shape[3] > GREEN else 0]
    points = _flat(grey[:, :: _step(grey.shape[1]), :: _step(grey.shape[2])])
    luminance = points.mean(axis=1)
    points -= luminance[:, None]
    width, height = np.log(sides).T
    found = np.empty((n, len(IMAGE_SIGNALS)))
    found[:, 0] = luminance
    found[:, 1] = np.sqrt(_mean_square(points))
    found[:, 2] = np.log(STILL + _mean_square(_laplacian(grey)))
    found[:, 3] = width - height
    found[:, 4] = (width + height) / 2
    return found


def jitter(values: NDArray[np.floating], width: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """values: [n] of one signal -> [n], each plus its own uniform noise in [0, width).

    width: `OrderStatistics.jitter` of the signal's reference. Reference and observations must have the same width.
    """
    noisy: NDArray[np.float64] = np.asarray(values, np.float64) + width * rng.random(np.shape(values))
    return noisy


def _step(side: int) -> int:
    return max(1, side // GRID)


def _laplacian(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[n, height, width] -> [n, m]: the five-point Laplacian at m pixels of the middle half; m may be 0."""
    rows, columns = _middle(grey.shape[1]), _middle(grey.shape[2])
    if not rows or not columns:
        return np.empty((len(grey), 0), np.float32)
    centre = _taken(grey, rows, columns) * np.int16(4)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        centre -= _taken(grey, _moved(rows, down), _moved(columns, right))
    return _flat(centre)


def _middle(side: int) -> range:
    """Evenly spaced places in the middle half of 0 to side - 1, each with a neighbour on both sides."""
    border = side // 4 + 1
    return range(border, side - border, _step(side))


def _moved(places: range, by: int) -> range:
    return range(places.start + by, places.stop + by, places.step)


def _taken(grey: NDArray[np.uint8], rows: range, columns: range) -> NDArray[np.int16]:
    picked = grey[:, rows.start : rows.stop : rows.step, columns.start : columns.stop : columns.step]
    return picked.astype(np.int16)


def _flat(values: NDArray[np.integer]) -> NDArray[np.float32]:
    """[n, rows, columns] -> [n, rows * columns]."""
    return values.astype(np.float32).reshape(len(values), math.prod(values.shape[1:]))


def _mean_square(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, m] -> [n]; 0 for no values."""
    sums: NDArray[np.float32] = np.einsum("nm,nm->n", values, values)
    return sums / np.float32(max(values.shape[1], 1))
