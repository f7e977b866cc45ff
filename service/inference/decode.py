"""Bytes -> checked, oriented uint8 array on the model's canvas.

The content alone decides what an image is, not its name or Content-Type. The header is read first, so that a file of
739 bytes that claims 60000x60000 pixels is refused before a decoder allocates memory. A JPEG that is much larger than
the canvas is decoded at a fraction of its size: a full decode would be most of the cost (docs/decisions/0013).
"""

import io
from dataclasses import dataclass

import imagesize
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from models.contract.manifest import Preprocessing
from models.contract.preprocess import Placement, letterbox
from service.errors import BadRequest, ServiceError, TooLarge, UndecodableImage, UnsupportedImage

# Pillow's own limit only warns. Ours is checked on the header, before Pillow opens the file.
Image.MAX_IMAGE_PIXELS = None

MAX_SCANS = 50  # of a JPEG. Encoders make about ten; a bomb has thousands, each as costly as the whole image
ORIENTATION = 0x0112  # the EXIF tag, and its values
UPRIGHT, TURNED, QUARTER_TURNS = 1, range(2, 9), range(5, 9)
SMALL_BYTES, SMALL_PIXELS = 16 * 1024, 128 * 128
SPARE = 1.5  # a reduced JPEG is still so much larger than its canvas; the letterbox averages the rest
MAX_PADDING = 0.25  # pixels of the canvas by which a reduced JPEG may be larger than the image
START_OF_SCAN = b"\xff\xda"  # never occurs in compressed data, where a zero follows each 0xff
ANIMATED = ("PNG", "WEBP")  # not JPEG: cameras add previews as further pictures
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B")  # Pillow's modes for a 16-bit grey PNG


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image: its canvas for the engine, and the way back to the pixels as posted."""

    canvas: NDArray[np.uint8]  # [height, width, channels]
    placement: Placement
    media_type: str
    width: int  # of the image as posted, upright
    height: int


def decode(data: bytes, spec: Preprocessing, max_pixels: int) -> Picture:
    """data: a JPEG, PNG or WebP file -> Picture, upright after EXIF orientation.

    Raises BadRequest (empty), UnsupportedImage (another type, or several frames), TooLarge (pixels)
    and UndecodableImage (damaged).
    """
    media_type = sniff(data)
    if media_type == "image/jpeg" and data.count(START_OF_SCAN) > MAX_SCANS:
        raise UndecodableImage(f"the JPEG has more than {MAX_SCANS} scans: save it again with fewer, or as baseline")
    try:
        stated = _stated_size(data)
        _check_size(*stated, max_pixels)
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as file:
            _check(file, stated, max_pixels)
            orientation = _orientation(file)
            width, height = file.size[::-1] if orientation in QUARTER_TURNS else file.size
            reduced_by = _reduce(file, min(spec.height / height, spec.width / width))
            image = _to_array(file, orientation, spec.channels)
    except ServiceError:
        raise
    except Exception as error:  # hostile bytes make decoders raise errors of every kind
        raise UndecodableImage(f"the {media_type} data is damaged or cut short: {error}") from error
    canvas, placement = letterbox(image, spec, reduced_by)
    return Picture(canvas, placement, media_type, width, height)


def is_small(data: bytes) -> bool:
    """Whether decoding takes less time than handing the image to a thread: about 0.1 ms."""
    if len(data) > SMALL_BYTES:
        return False
    width, height = _stated_size(data)
    return width * height <= SMALL_PIXELS


def as_picture(canvas: NDArray[np.uint8], spec: Preprocessing) -> Picture:
    """A canvas that a client sent. Raises BadRequest when it is not uint8 [height, width, channels] of the model."""
    if canvas.shape != spec.canvas_shape or canvas.dtype != np.uint8:
        raise BadRequest(f"the model takes uint8 {list(spec.canvas_shape)}, not {canvas.dtype} {list(canvas.shape)}")
    return Picture(canvas, Placement((1.0, 1.0), (0.0, 0.0)), "image/png", spec.width, spec.height)


def png(canvas: NDArray[np.uint8]) -> bytes:
    """canvas: uint8 [height, width, 1 or 3] -> a PNG file with the same pixels."""
    file = io.BytesIO()
    Image.fromarray(canvas.squeeze(2) if canvas.shape[2] == 1 else canvas).save(file, "PNG", compress_level=1)
    return file.getvalue()


def sniff(data: bytes) -> str:
    """Media type by content. Raises BadRequest for no bytes and UnsupportedImage for other types."""
    if not data:
        raise BadRequest("the body is empty: send the bytes of a JPEG, PNG or WebP file")
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise UnsupportedImage("the body is not a JPEG, PNG or WebP file: send one of those, as raw bytes")


def _stated_size(data: bytes) -> tuple[int, int]:
    """Width and height that the header states, before rotation; -1 for one that it does not state."""
    width, height = imagesize.get(io.BytesIO(data), exif_rotation=False)
    return int(width), int(height)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise UndecodableImage("the image header is damaged or cut short: it states no size")
    if width * height > max_pixels:
        raise TooLarge(f"the image has {width}x{height} pixels, {max_pixels} are allowed: send it smaller")


def _check(file: ImageFile, stated: tuple[int, int], max_pixels: int) -> None:
    _check_size(*file.size, max_pixels)
    if file.size != stated:  # else `is_small` would see a small size, and the event loop decode a large image
        raise UndecodableImage("the image header is damaged: it states two sizes")
    if file.format in ANIMATED and getattr(file, "is_animated", False):
        raise UnsupportedImage("the image is animated: send one frame as a JPEG, PNG or WebP file")


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
