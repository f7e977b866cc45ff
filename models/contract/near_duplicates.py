"""Finds photographs that are nearly the same, so that no two of them are in different splits.

The print of a photograph is its grey thumbnail, centred and of unit length. The product of two prints is their
correlation, which hardly depends on brightness, contrast, compression and size.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 24
ALIKE = 0.9  # correlation: by eye, half of the pairs above it show one photograph, and hardly any below
ROWS = 2048  # compared at a time


def prints(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """images: uint8 [n, h, w, 3], RGB -> [n, d], rows of unit length (zero for a photograph of one grey)."""
    greys = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images)
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    flat = np.stack([cv2.resize(grey, size, interpolation=cv2.INTER_AREA).ravel() for grey in greys])
    centred = flat.astype(np.float32) - flat.mean(axis=1, keepdims=True, dtype=np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(lengths, 1e-6), np.float32)


def mirrored(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prints of the mirror images of the same photographs."""
    return rows.reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX)[:, :, ::-1].reshape(len(rows), -1)


def alike(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of `ours` [n, d] is nearly the same as, or the mirror image of, which of `theirs` [m, d]: [n, m]."""
    found = np.zeros((len(ours), len(theirs)), np.bool_)
    for start in range(0, len(ours) if len(theirs) else 0, ROWS):
        part = ours[start : start + ROWS]
        found[start : start + ROWS] = np.maximum(part @ theirs.T, part @ mirrored(theirs).T) >= ALIKE
    return found


def resemble(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of `ours` [n, d] is nearly the same as, or the mirror image of, any of `theirs` [m, d]: [n]."""
    found = np.zeros(len(ours), np.bool_)
    if not len(theirs):
        return found
    for start in range(0, len(ours), ROWS):
        found[start : start + ROWS] = alike(ours[start : start + ROWS], theirs).any(axis=1)
    return found
