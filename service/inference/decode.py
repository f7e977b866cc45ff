"""Bytes -> checked, oriented uint8 array on the model's canvas.

The content alone decides what an image is, not its name or Content-Type. The header is read first, so that a file of
739 bytes that claims 60000x60000 pixels is refused before a decoder allocates memory. `models.contract.image_file`
reads the pixels, for refinements too.
"""

import io
from dataclasses import dataclass

import imagesize
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from models.contract.image_file import FORMATS, read_pixels
from models.contract.manifest import Preprocessing
from models.contract.preprocess import Placement
from service.errors import BadRequest, ServiceError, TooLarge, UndecodableImage, UnsupportedImage

MAX_SCANS = 50  # of a JPEG. Encoders make about ten; a bomb has thousands, each as costly as the whole image
SMALL_BYTES, SMALL_PIXELS = 16 * 1024, 128 * 128
START_OF_SCAN = b"\xff\xda"  # never occurs in compressed data, where a zero follows each 0xff
ANIMATED = ("PNG", "WEBP")  # not JPEG: cameras add previews as further pictures


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
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            _check(file, stated, max_pixels)
            pixels = read_pixels(file, spec)
    except ServiceError:
        raise
    except Exception as error:  # hostile bytes make decoders raise errors of every kind
        raise UndecodableImage(f"the {media_type} data is damaged or cut short: {error}") from error
    canvas, placement = pixels.on_canvas(spec)
    return Picture(canvas, placement, media_type, pixels.width, pixels.height)


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
