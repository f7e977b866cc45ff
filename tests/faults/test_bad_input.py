"""Hostile bodies against a real process: each gets its status, memory does not grow, good requests are answered."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

MIB = 2**20


def png_claiming(width: int, height: int) -> bytes:
    """A valid PNG of that many black pixels, in a few kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_claiming(encode: Callable[..., bytes], width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("RGB", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def chunked(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)


@pytest.mark.slow
def test_bad_bodies_get_their_status_and_cost_nothing_else(
    start_service: Callable[..., Any], encode: Callable[..., bytes], grey: Callable[..., bytes]
) -> None:
    service = start_service()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    jpeg = encode(noise, "JPEG")
    animation = io.BytesIO()
    noise.save(animation, "WEBP", save_all=True, append_images=[noise.rotate(90)])
    cases = {
        "empty": (b"", 400),
        "text": (b"hello", 415),
        "truncated JPEG": (jpeg[: len(jpeg) // 2], 422),
        "JPEG that claims 60000x60000": (jpeg_claiming(encode, 60000, 60000), 413),
        "PNG of 15000x15000": (png_claiming(15000, 15000), 413),
        "1x1": (encode(Image.new("RGB", (1, 1))), 200),
        "CMYK": (encode(noise.convert("CMYK"), "JPEG"), 200),
        "16 bit": (encode(Image.fromarray(np.full((9, 9), 40000, np.uint16))), 200),
        "palette": (encode(noise.convert("P")), 200),
        "animated WebP": (animation.getvalue(), 415),
        "over the limit": (bytes(17 * MIB), 413),
    }
    headers = {"content-type": "image/png"}
    good = grey(0.2)

    def round_of_all() -> None:
        for name, (body, status) in cases.items():
            reply = service.http.post("/v1/predict", content=body, headers=headers)
            assert reply.status_code == status, (name, reply.text)
            assert service.http.post("/v1/predict", content=good, headers=headers).status_code == 200, name
        reply = service.http.post("/v1/predict", content=chunked(17 * MIB), headers=headers)
        assert reply.status_code == 413
        reply = service.http.post("/v1/predict", content=good, headers={"content-type": "text/html"})
        assert reply.status_code == 415

    for _ in range(20):
        service.http.post("/v1/predict", content=good, headers=headers)
    with_good_ones = service.peak_bytes()
    round_of_all()
    after_one_round = service.peak_bytes()
    for _ in range(5):
        round_of_all()
    assert after_one_round - with_good_ones < 64 * MIB  # a body; that PNG alone would be 225 MB of pixels
    assert service.peak_bytes() - after_one_round < 16 * MIB  # a body kept each round would be 85 MB
