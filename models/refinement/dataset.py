"""One split of a snapshot as canvases and targets.

Images are read as the service reads them (`models.contract.image_file`). Labels are pixels of the image as posted,
upright; on the canvas they lie where the letterbox puts them. A row that cannot be used is left out and named: one bad
image does not stop a refinement.
"""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.contract import manifest
from models.contract.image_file import FORMATS, Pixels, read_pixels
from models.contract.manifest import Preprocessing
from models.contract.preprocess import place
from models.contract.snapshot import RecentAudit, Row, SnapshotError, Split, image_path, read_snapshot

AT_ONCE = 4  # images that are decoded at a time
MAX_PIXELS = 100_000_000  # of an image; `losscast snapshot` takes no larger one
FAR_OUT = 1.0  # image sizes beyond the frame: labels so far out are in other units


@dataclass(frozen=True, slots=True)
class Labelled:
    """The rows of a split that can be used; rows belong together. It may be empty."""

    rows: list[Row]
    images: NDArray[np.uint8]  # [n, h, w, c] canvases
    targets: NDArray[np.float32]  # [n, ...] in canvas units, NaN where not annotated
    left_out: list[tuple[str, str]]  # sample id and reason of each row that cannot be used

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[n, 2]: width and height of the images as posted."""
        return np.array([(row.width, row.height) for row in self.rows], np.int64).reshape(-1, 2)


class _UnusableRowError(ValueError):
    """The row cannot be used; the message says why."""


def load_split(snapshot: Path, split: Split, task: manifest.Task, preprocessing: Preprocessing) -> Labelled:
    """The rows of `split` in the order of the snapshot, with their images on canvases of `preprocessing`.

    Raises SnapshotError when the folder is damaged, or of another task.
    """
    found, rows = read_snapshot(snapshot)
    if found.task != task:
        raise SnapshotError(
            f"{snapshot} has labels of model {found.model} for a task that is not {task.name!r} of this model: "
            "make a snapshot of this model"
        )

    def read(row: Row) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | str:
        try:
            return _example(snapshot, row, task, preprocessing)
        except _UnusableRowError as reason:
            return str(reason)

    wanted = [row for row in rows if row.split == split]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        read_rows = list(zip(wanted, pool.map(read, wanted), strict=True))
    kept = [(row, one) for row, one in read_rows if not isinstance(one, str)]
    images = np.zeros((len(kept), *preprocessing.canvas_shape), np.uint8)
    targets = np.zeros((len(kept), *task.prediction_shape), np.float32)
    for at, (_, (image, target)) in enumerate(kept):
        images[at], targets[at] = image, target
    left_out = [(row.sample_id, one) for row, one in read_rows if isinstance(one, str)]
    return Labelled([row for row, _ in kept], images, targets, left_out)


def canvas_of(snapshot: Path, sample: RecentAudit, spec: Preprocessing) -> NDArray[np.uint8] | None:
    """The image of a sample without a label on its canvas, [h, w, c]; None if it cannot be used."""
    try:
        return _pixels(image_path(snapshot, sample), sample.sha256, spec).on_canvas(spec)[0]
    except _UnusableRowError:
        return None


def _example(
    snapshot: Path, row: Row, task: manifest.Task, spec: Preprocessing
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    values = _values(row.label, task)
    pixels = _pixels(image_path(snapshot, row), row.sha256, spec)
    if task.kind == "keypoints":
        _check_inside(values, pixels)
        values = place(pixels.width, pixels.height, spec).to_canvas(values)
    return pixels.on_canvas(spec)[0], values.astype(np.float32)


def _pixels(path: Path, sha256: str, spec: Preprocessing) -> Pixels:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _UnusableRowError(f"its image is gone ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _UnusableRowError("its image is not the one that was taken: it has another SHA-256")
    try:
        with Image.open(path, formats=FORMATS) as file:
            _check_size(*file.size)
            return read_pixels(file, spec)
    except _UnusableRowError:
        raise
    except Exception as error:  # damaged bytes make decoders raise errors of every kind
        raise _UnusableRowError(f"its image cannot be decoded: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _UnusableRowError(f"its image has {width}x{height} pixels, more than {MAX_PIXELS}")


def _values(label: Sequence[Any], task: manifest.Task) -> NDArray[np.float64]:
    """The label as numbers, [k, 2] with NaN for a keypoint that was not placed, or [k]."""
    points = task.kind == "keypoints"
    try:
        values = np.array([[math.nan] * 2 if points and one is None else one for one in label], np.float64)
    except (TypeError, ValueError) as error:
        raise _UnusableRowError("its label does not consist of numbers") from error
    if values.shape != task.prediction_shape:
        raise _UnusableRowError(f"its label has shape {list(values.shape)}, not {list(task.prediction_shape)}")
    missing = np.isnan(values)
    if np.isinf(values).any() or (missing.any() and not points) or (points and (missing[:, 0] != missing[:, 1]).any()):
        raise _UnusableRowError("its label has a number that is not finite")
    if missing.all():
        raise _UnusableRowError("its label has no annotated keypoint")
    return values


def _check_inside(values: NDArray[np.float64], pixels: Pixels) -> None:
    size = np.array([pixels.width, pixels.height], np.float64)
    beyond = np.nan_to_num(np.maximum(-values, values - size))
    if (beyond > FAR_OUT * size).any():
        raise _UnusableRowError(f"its label has a keypoint far outside of its {pixels.width}x{pixels.height} pixels")
