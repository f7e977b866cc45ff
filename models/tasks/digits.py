"""The task `digits`: find the corners of a real handwritten digit's square on a cluttered canvas.

scikit-learn's 1,797 images of 8x8 pixels are split by image into trunk, head, calibration and test;
`models.tasks.canvas` draws any number of canvases from each. This needs no download and no torch.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import islice, product

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from models.contract import manifest
from models.contract.loss_definition import KeypointLoss
from models.tasks.canvas import CanvasRanges, render
from models.tasks.protocol import SPLITS, Examples, Split

SPLIT_SIZES: dict[Split, int] = {"trunk": 700, "head": 400, "calibration": 400, "test": 297}
SPLIT_SEED = 20211  # decides the split of each image, independent of the training seed
GLYPH_PX = 32
INK_LEVELS = 16  # scikit-learn counts ink from 0 to 16
WITNESSES = 64  # canvases of each split that the fingerprint covers
BLOCK_PX = 8
CORNER_ERROR = KeypointLoss()
REMEMBERED = 16  # sets of examples, of about 10 MB each

CARD = """\
The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn (the test set of E. Alpaydin and C. Kaynak,
*Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998, <https://doi.org/10.24432/C50P49>,
CC BY 4.0). Each is placed on a 64x64 grey canvas by a random similarity (rotation within 45 degrees either way) and
mild perspective, over gradients, strokes and blobs, then partly covered, blurred and made noisy to a varying degree.
The target is the four corners of the digit's own square. The scenes are synthetic; ink is always brighter than its
background; the splits are disjoint by image but not by writer, because the data do not name their writers."""


class Digits:
    """The `RegressionTask` over scikit-learn's digits; stratum is the digit, 0 to 9."""

    task = manifest.Task(
        name="digits",
        kind="keypoints",
        names=("top_left", "top_right", "bottom_right", "bottom_left"),
        units=("px",),
        skeleton=((0, 1), (1, 2), (2, 3), (3, 0)),
    )
    preprocessing = manifest.Preprocessing(height=64, width=64, channels=1, fill=55)  # fill: a usual background
    # A quarter of the typical side (32 px): beyond it the corners no longer locate the digit.
    loss = manifest.Loss(name="mean corner error", unit="px", failure_level=8.0, definition=CORNER_ERROR)
    card = CARD
    calibration_views = 4
    test_views = 8

    def __init__(self, ranges: CanvasRanges | None = None) -> None:
        self._ranges = ranges or CanvasRanges()
        data = load_digits()
        self._glyphs: NDArray[np.float32] = np.stack([_enlarge(image / INK_LEVELS) for image in data.images])
        self._labels: NDArray[np.int64] = data.target.astype(np.int64)
        self._sources = _split(len(self._glyphs))
        # A training asks for most sets several times, and drawing is much of a short one.
        self._remembered = lru_cache(REMEMBERED)(self._draw)

    def sources(self, split: Split) -> NDArray[np.int64]:
        """Ids of the source images of a split. Raises ValueError on an unknown split."""
        if split not in self._sources:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
        return self._sources[split]

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        """See `RegressionTask.examples`. Raises ValueError on an unknown split or fewer than one view."""
        if views < 1:
            raise ValueError(f"at least one view is needed, not {views}")
        return self._remembered(split, views, seed, first_view)

    def _draw(self, split: Split, views: int, seed: int, first_view: int) -> Examples:
        source = np.repeat(self.sources(split), views)
        canvases = list(self._render(split, views, seed, first_view))
        images, targets = (np.stack(column) for column in zip(*canvases, strict=True))
        sizes = np.full((len(images), 2), self._ranges.size_px, np.int64)
        return Examples(images, targets, source, self._labels[source], sizes)

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """preds, targets: [n, 4, 2] in canvas pixels -> mean Euclidean error of annotated corners [n] in pixels."""
        return CORNER_ERROR(preds, targets)

    def true_keypoint_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """preds, targets: [n, 4, 2] in canvas pixels -> Euclidean error of each corner [n, 4] in pixels."""
        return CORNER_ERROR.each(preds, targets)

    @cached_property
    def fingerprint(self) -> str:
        """Covers the data, the splits, the ranges and drawn canvases; equal on every machine (see `_gist`)."""
        digest = hashlib.sha256(self._ranges.signature.encode())
        for array in (self._glyphs, self._labels, *self._sources.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        for split in SPLITS:
            for image, corners in islice(self._render(split, views=1, seed=0, first_view=0), WITNESSES):
                digest.update(_gist(image, corners))
        return digest.hexdigest()[:16]

    def _render(
        self, split: Split, views: int, seed: int, first_view: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        for source, view in product(self.sources(split).tolist(), range(first_view, first_view + views)):
            rng = np.random.default_rng((seed, SPLITS.index(split), source, view))
            yield render(self._glyphs[source], rng, self._ranges)


def _enlarge(ink: NDArray[np.float64]) -> NDArray[np.float32]:
    """[8, 8] -> [32, 32], smooth: about its size on the canvas. The warp onto the canvas is only linear."""
    size = (GLYPH_PX, GLYPH_PX)
    return np.clip(cv2.resize(ink, size, interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float32, copy=False)


def _split(size: int) -> dict[Split, NDArray[np.int64]]:
    order = np.random.default_rng(SPLIT_SEED).permutation(size)
    ends = np.cumsum(list(SPLIT_SIZES.values()))[:-1]
    return dict(zip(SPLIT_SIZES, np.split(order, ends), strict=True))


def _gist(image: NDArray[np.uint8], corners: NDArray[np.float32]) -> bytes:
    """Block means in whole grey levels, and corners in hundredths of a pixel.

    It is coarse because processors round differently: one of 256 canvases differed in the grey level of one pixel. A
    change of half a pixel or of a few grey levels still changes the result.
    """
    blocks = cv2.resize(image.astype(np.float32), None, fx=1 / BLOCK_PX, fy=1 / BLOCK_PX, interpolation=cv2.INTER_AREA)
    numbers = np.concatenate((blocks.ravel(), 100 * corners.ravel()))
    return np.rint(numbers).astype("<i4").tobytes()
