"""From an open image file to the model's canvas: the same pixels in the service and in a refinement.

A JPEG that is much larger than the canvas is decoded at a fraction of its size: a full decode would be most of the cost
(docs/decisions/0013). The service checks the file before; files in a snapshot have passed that check.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from models.contract.manifest import Preprocessing
from models.contract.preprocess import Placement, letterbox

# Pillow's own limit only warns. The service checks its own on the header, before Pillow opens the file.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("JPEG", "PNG", "WEBP")  # that are read
ORIENTATION = 0x0112  # the EXIF tag, and its values
UPRIGHT, TURNED, QUARTER_TURNS = 1, range(2, 9), range(5, 9)
SPARE = 1.5  # a reduced JPEG is still so much larger than its canvas; the letterbox averages the rest
MAX_PADDING = 0.25  # pixels of the canvas by which a reduced JPEG may be larger than the image
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B")  # Pillow's modes for a 16-bit grey PNG


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of a file, upright after EXIF orientation. A JPEG may be reduced."""

    array: NDArray[np.uint8]  # [h, w, channels]
    width: int  # of the whole image, upright
    height: int
    reduced_by: int  # 1: not reduced

    def on_canvas(self, spec: Preprocessing) -> tuple[NDArray[np.uint8], Placement]:
        """The canvas [height, width, channels] and the place of the whole image on it."""
        return letterbox(self.array, spec, self.reduced_by)


def read_pixels(file: ImageFile, spec: Preprocessing) -> Pixels:
    """The pixels that the canvas of `spec` needs. file: opened by Pillow. Damaged bytes raise errors of every kind."""
    orientation = _orientation(file)
    width, height = file.size[::-1] if orientation in QUARTER_TURNS else file.size
    reduced_by = _reduce(file, min(spec.height / height, spec.width / width))
    return Pixels(_to_array(file, orientation, spec.channels), width, height, reduced_by)


def _orientation(file: ImageFile) -> int:
    try:
        return int(file.getexif().get(ORIENTATION, UPRIGHT))
    except Exception:  # noqa: BLE001 - damaged EXIF data must not cost a good image
        return UPRIGHT


def _reduce(file: ImageFile, scale: float) -> int:
    """Sets a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, with SPARE left for the letterbox.

    scale: from the image to its canvas. Returns the divisor, 1 for other files. The decoder pads a side that it does
    not divide; MAX_PADDING limits that.
    """
    width, height = file.size
    factors = [n for n in (8, 4, 2) if n * scale * SPARE <= 1 and max(-width % n, -height % n) * scale <= MAX_PADDING]
    if not factors:
        return 1
    drafted = file.draft(file.mode, (max(width // factors[0], 1), max(height // factors[0], 1)))
    return 1 if drafted is None else round(width / drafted[1][2])


def _to_array(file: ImageFile, orientation: int, channels: int) -> NDArray[np.uint8]:
    upright: Image.Image = file if orientation not in TURNED else ImageOps.exif_transpose(file)
    if upright.mode in SIXTEEN_BIT:
        upright = Image.fromarray((np.asarray(upright, np.uint32) >> 8).astype(np.uint8))
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    mode = "L" if channels == 1 else "RGB"
    if upright.mode != mode:  # convert copies an image even when it has the mode already
        upright = upright.convert(mode)
    array = np.asarray(upright)
    return array.reshape(*array.shape[:2], channels)
