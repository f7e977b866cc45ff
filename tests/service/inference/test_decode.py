import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.contract.manifest import Preprocessing
from models.contract.preprocess import letterbox
from service.errors import BadRequest, ServiceError, TooLarge, UndecodableImage, UnsupportedImage
from service.inference.decode import Picture, as_picture, decode, is_small, png, sniff

Encode = Callable[..., bytes]
GREY = Preprocessing(height=16, width=16, channels=1)
COLOUR = Preprocessing(height=16, width=16, channels=3)
MAX_PIXELS = 1_000_000


def picture(data: bytes, spec: Preprocessing = COLOUR) -> Picture:
    return decode(data, spec, MAX_PIXELS)


def claiming_jpeg(encode: Encode, width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("RGB", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def claiming_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_content_decides_what_an_image_is(encode: Encode, kind: str) -> None:
    decoded = picture(encode(Image.new("RGB", (16, 16), (200, 100, 50)), kind, quality=95))
    assert decoded.media_type == f"image/{kind.lower()}"
    assert decoded.canvas.shape == (16, 16, 3)
    assert np.allclose(decoded.canvas[8, 8], (200, 100, 50), atol=6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_becomes_the_models_channels(encode: Encode, mode: str, channels: int) -> None:
    image = Image.new("L", (16, 16), 255)
    if mode == "I;16":
        image = Image.fromarray(np.full((16, 16), 65535, np.uint16))
    elif mode != "L":
        image = image.convert(mode)
    canvas = picture(encode(image), Preprocessing(height=16, width=16, channels=channels)).canvas  # type: ignore[arg-type]  # 1 or 3
    assert canvas.shape == (16, 16, channels)
    assert (canvas == 255).all()


def test_sixteen_bits_are_scaled_and_not_clipped(encode: Encode) -> None:
    dim = Image.fromarray(np.full((16, 16), 128 * 256, np.uint16))
    assert (picture(encode(dim), GREY).canvas == 128).all()


def test_a_palette_with_transparency_is_read_without_a_warning(encode: Encode) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert (picture(encode(image, transparency=b"\x00\xff")).canvas[0, 0] == (10, 20, 30)).all()


def test_a_cmyk_jpeg_is_read_in_its_colours(encode: Encode) -> None:
    canvas = picture(encode(Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK"), "JPEG", quality=95)).canvas
    assert canvas[8, 8, 0] > 200
    assert canvas[8, 8, 1:].max() < 60


def test_exif_orientation_turns_the_image_upright_and_points_follow(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by a quarter turn
    stored = Image.new("RGB", (40, 20))
    decoded = picture(encode(stored, "JPEG", exif=exif))
    corner = decoded.placement.to_image(np.array([[12.0, 16.0]]))
    assert np.allclose(corner, [[20.0, 40.0]])  # the far corner of an upright image of 20x40


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow warns of what this test is about
def test_damaged_exif_does_not_cost_a_good_image(encode: Encode) -> None:
    data = encode(Image.new("RGB", (16, 16)), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert picture(data).canvas.shape == (16, 16, 3)


def test_a_camera_jpeg_with_a_preview_inside_is_read(encode: Encode) -> None:
    picture_and_preview = encode(
        Image.new("RGB", (16, 16), "white"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]
    )
    assert picture(picture_and_preview).canvas.min() == 255


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(encode: Encode) -> None:
    data = encode(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    assert picture(data).canvas.shape == (16, 16, 3)
    with pytest.raises(UndecodableImage, match="scans"):
        picture(data[:-2] + 1000 * last_scan + data[-2:])


def test_a_header_that_states_two_sizes_is_refused_before_decoding(encode: Encode) -> None:
    small = claiming_jpeg(encode, 100, 100)
    at = small.index(b"\xff\xc0")
    seen_first = small[at : at + 19] + b"\xff\xd9"  # the small size, within what Pillow takes for a comment
    junk = b"\xff\x00\x00\x06"  # skipped by Pillow; a segment of four bytes, the comment's head, to the other
    comment = b"\xff\xfe" + struct.pack(">H", len(seen_first) + 2) + seen_first
    data = small[:20] + junk + comment + claiming_jpeg(encode, 900, 900)[20:]
    assert Image.open(io.BytesIO(data)).size == (900, 900)
    assert is_small(data)  # so it would be decoded in the event loop
    with pytest.raises(UndecodableImage, match="two sizes"):
        picture(data)


def smooth(width: int, height: int) -> Image.Image:
    """A photograph's smoothness, and another colour in every place."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(128, 96), (129, 97), (1000, 701), (33, 400), (3, 700), (31, 31), (257, 7)])
def test_a_jpeg_decoded_at_a_fraction_of_its_size_gives_the_same_canvas_and_placement(
    encode: Encode, size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth(*size), "JPEG", quality=95, exif=exif)
    whole = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected, placement = letterbox(np.asarray(whole), COLOUR)
    decoded = picture(data)
    assert (decoded.width, decoded.height) == whole.size
    assert np.abs(decoded.canvas.astype(float) - expected).mean() < 3
    corners = np.array([[0.0, 0.0], whole.size])
    assert np.abs(decoded.placement.to_canvas(corners) - placement.to_canvas(corners)).max() < 1  # of 16


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_large_jpeg_is_read_in_its_colours(encode: Encode, mode: str, options: dict[str, Any]) -> None:
    image = smooth(500, 333).convert(mode)
    expected = np.asarray(image.convert("RGB").resize((16, 11), Image.Resampling.BOX), float)
    canvas = picture(encode(image, "JPEG", **options)).canvas
    assert np.abs(canvas[2:13] - expected).mean() < 8


def test_the_placement_of_a_reduced_jpeg_counts_in_its_own_pixels(encode: Encode) -> None:
    image = Image.new("RGB", (999, 999))
    image.paste((255, 255, 255), (400, 200, 800, 600))
    decoded = picture(encode(image, "JPEG", quality=95))
    rows, columns = np.nonzero(decoded.canvas[..., 0] > 128)
    points = [[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]
    found = decoded.placement.to_image(np.array(points, np.float64))
    assert np.abs(found - [[400, 200], [800, 600]]).max() < 999 / 16  # a pixel of the canvas


def test_a_one_pixel_image_is_an_image(encode: Encode) -> None:
    assert picture(encode(Image.new("RGB", (1, 1), "white"))).canvas.min() == 255


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", BadRequest),
        (b"hello, world", UnsupportedImage),
        (b"GIF89a" + bytes(50), UnsupportedImage),
        (b"\xff\xd8\xff", UndecodableImage),
        (b"\x89PNG\r\n\x1a\n", UndecodableImage),
        (b"RIFF\x00\x00\x00\x00WEBP", UndecodableImage),
    ],
)
def test_bytes_that_are_no_image_are_refused_with_the_right_error(data: bytes, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        picture(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_refused(encode: Encode, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(UndecodableImage, match="damaged or cut short"):
        picture(data[: len(data) // 2])


def test_headers_that_claim_too_much_are_refused_before_decoding(encode: Encode) -> None:
    for data in (claiming_jpeg(encode, 60000, 60000), claiming_png(15000, 15000)):
        with pytest.raises(TooLarge, match="pixels"):
            picture(data)


def test_animations_are_refused(encode: Encode) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for kind in ("WEBP", "PNG"):
        with pytest.raises(UnsupportedImage, match="one frame"):
            picture(encode(frames[0], kind, save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_canvas_goes_into_a_png_and_comes_out_as_it_was(channels: int) -> None:
    spec = Preprocessing(height=12, width=16, channels=channels)  # type: ignore[arg-type]  # 1 or 3
    canvas = np.random.default_rng(0).integers(0, 256, spec.canvas_shape, np.uint8)
    decoded = decode(png(as_picture(canvas, spec).canvas), spec, MAX_PIXELS)
    assert decoded.media_type == "image/png"
    assert (decoded.canvas == canvas).all()


def test_sniffing_reads_nothing_but_the_signature(encode: Encode) -> None:
    assert sniff(encode(Image.new("L", (4, 4)), "WEBP")) == "image/webp"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of damage that it reads past
def test_random_bytes_behind_a_signature_never_escape_the_error_tree(encode: Encode) -> None:
    rng = np.random.default_rng(1)
    good = [encode(Image.new("RGB", (32, 32), "teal"), kind) for kind in ("JPEG", "PNG", "WEBP")]
    for number in range(600):
        data = bytearray(good[number % 3])
        for at in rng.integers(0, len(data), 8):
            data[at] = rng.integers(256)
        try:
            assert picture(bytes(data)).canvas.shape == (16, 16, 3)
        except ServiceError:
            continue
