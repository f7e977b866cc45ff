"""Draws one canvas: a glyph under a random similarity and mild perspective, over clutter, degraded.

One latent difficulty per canvas drives contrast, clutter, occlusion, blur and noise together, each
with its own luck on top: easy canvases are clean, the hardest cannot be solved by anyone.
"""

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]  # [h, w] grey levels, 0 to 255
# Top left, top right, bottom right, bottom left.
UNIT_SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


@dataclass(frozen=True, slots=True)
class CanvasRanges:
    """Ranges from which a canvas is drawn. Pairs are (easiest, hardest) unless named min and max."""

    size_px: int = 64
    min_side_px: float = 24.0
    max_side_px: float = 40.0
    max_rotation_deg: float = 45.0
    corner_jitter: float = 0.06  # perspective: each corner moves by up to this share of the side
    contrast: tuple[float, float] = (150.0, 40.0)
    noise: tuple[float, float] = (3.0, 30.0)  # standard deviation, grey levels
    blur_px: tuple[float, float] = (0.3, 2.0)  # standard deviation
    clutter: tuple[float, float] = (1.0, 14.0)  # number of strokes and blobs
    occlusion: tuple[float, float] = (0.0, 0.75)  # width of the occluder as a share of the side

    @property
    def signature(self) -> str:
        """The ranges as text, in a form that never changes: the fingerprint of the data depends on it."""
        return f"Recipe({', '.join(f'{name}={value!r}' for name, value in asdict(self).items())})"


def render(
    glyph: NDArray[np.floating], rng: np.random.Generator, ranges: CanvasRanges
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """glyph: ink [h, w] in 0..1 -> canvas uint8 [size, size, 1] and the square's corners [4, 2].

    Corners are top left, top right, bottom right, bottom left of the glyph's own square, in canvas
    pixels under the continuous convention of `models.contract.preprocess`.
    """
    difficulty = rng.beta(1.0, 1.7)
    # Each degradation follows the difficulty with its own luck, so that no single one gives it away.
    contrast, noise, blur, clutter, occlusion = np.clip(difficulty + rng.uniform(-0.35, 0.35, 5), 0, 1)
    corners = draw_corners(rng, ranges)
    background = rng.uniform(30, 80)
    ink = background + _between(ranges.contrast, contrast)
    shades = (background - 20, ink)
    image = _backdrop(rng, ranges.size_px, background)
    _clutter(image, rng, round(_between(ranges.clutter, clutter)), shades)
    alpha = place(glyph, corners, ranges.size_px)
    image += alpha * (ink - image)
    _occlude(image, rng, corners, _between(ranges.occlusion, occlusion), shades)
    image = cv2.GaussianBlur(image, (0, 0), _between(ranges.blur_px, blur)).astype(np.float32, copy=False)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(_between(ranges.noise, noise))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., None], corners


def draw_corners(rng: np.random.Generator, ranges: CanvasRanges) -> NDArray[np.float32]:
    """A random similarity of the unit square with jittered corners, wholly inside the canvas: [4, 2]."""
    angle = np.deg2rad(rng.uniform(-ranges.max_rotation_deg, ranges.max_rotation_deg))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    jitter = rng.uniform(-ranges.corner_jitter, ranges.corner_jitter, (4, 2))
    side = rng.uniform(ranges.min_side_px, ranges.max_side_px)
    quad = side * (UNIT_SQUARE - 0.5 + jitter) @ rotation.T
    low, high = -quad.min(axis=0), ranges.size_px - quad.max(axis=0)
    corners: NDArray[np.float32] = (quad + rng.uniform(low, np.maximum(low, high))).astype(np.float32)
    return corners


def place(glyph: NDArray[np.floating], corners: NDArray[np.float32], size_px: int) -> Grey:
    """The glyph's ink warped so that its square lies on `corners`: [size, size] in 0..1."""
    height, width = glyph.shape
    # cv2 puts pixel centres on whole numbers; corners count from the outer edge, half a pixel further.
    square = UNIT_SQUARE * np.array([width, height], np.float32) - np.float32(0.5)
    homography = cv2.getPerspectiveTransform(square, corners - np.float32(0.5))
    warped = cv2.warpPerspective(glyph.astype(np.float32), homography, (size_px, size_px), flags=cv2.INTER_LINEAR)
    ink: Grey = np.clip(warped, 0, 1).astype(np.float32)
    return ink


def _between(ends: tuple[float, float], share: float) -> float:
    return float(ends[0] + share * (ends[1] - ends[0]))


def _backdrop(rng: np.random.Generator, size_px: int, background: float) -> Grey:
    slope_x, slope_y = rng.uniform(-30, 30, 2).astype(np.float32)
    ramp = np.linspace(-0.5, 0.5, size_px, dtype=np.float32)
    backdrop: Grey = np.float32(background) + slope_x * ramp[None, :] + slope_y * ramp[:, None]
    return backdrop


def _clutter(image: Grey, rng: np.random.Generator, count: int, shades: tuple[float, float]) -> None:
    """Draws lines, arcs and blobs into `image`, as bright as the ink at most, so that some look like strokes."""
    size = len(image)
    ends = rng.uniform(-4, size + 4, (count, 2, 2)).round().astype(int).tolist()
    greys = rng.uniform(*shades, count).tolist()
    for (start, end), grey, kind in zip(ends, greys, rng.integers(0, 3, count).tolist(), strict=True):
        if kind == 0:
            cv2.line(image, start, end, grey, int(rng.integers(1, 4)), cv2.LINE_AA)
        elif kind == 1:
            axes = rng.integers(4, 16, 2).tolist()
            turn, sweep = rng.uniform(0, 360, 2).tolist()
            cv2.ellipse(image, start, axes, turn, 0, sweep, grey, int(rng.integers(1, 4)), cv2.LINE_AA)
        else:
            cv2.circle(image, start, int(rng.integers(2, 7)), grey, cv2.FILLED, cv2.LINE_AA)


def _occlude(
    image: Grey, rng: np.random.Generator, corners: NDArray[np.float32], share: float, shades: tuple[float, float]
) -> None:
    """Lays a straight band of one grey across the glyph, `share` of its side wide."""
    side = float(np.linalg.norm(corners[1] - corners[0]))
    thickness = round(share * side)
    if thickness < 1:
        return
    centre = corners.mean(axis=0) + rng.uniform(-0.5, 0.5, 2) * side
    angle = rng.uniform(0, np.pi)
    reach = 0.5 * side * np.array([np.cos(angle), np.sin(angle)])
    start, end = ((centre + sign * reach).round().astype(int).tolist() for sign in (-1, 1))
    cv2.line(image, start, end, float(rng.uniform(*shades)), thickness, cv2.LINE_8)
