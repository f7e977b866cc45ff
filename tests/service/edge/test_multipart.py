"""Forms as clients write them, and malformed ones."""

import httpx
import pytest

from service.edge.multipart import boundary_of, images_of
from service.errors import BadRequest, ServiceError, TooLarge


def form(*files: tuple[str, bytes]) -> tuple[bytes, bytes]:
    request = httpx.Request("POST", "http://service", files=[(name, ("a.jpg", data)) for name, data in files])
    boundary = boundary_of(request.headers["content-type"])
    assert boundary is not None
    return request.read(), boundary


@pytest.mark.parametrize("data", [b"", b"\r\n", b"--", b"\r\n--", b"\r\n\r\n", bytes(range(256)) * 40])
def test_every_image_comes_out_as_it_went_in_and_in_order(data: bytes) -> None:
    body, boundary = form(("image", data), ("image", b"second"), ("image", data))
    assert images_of(body, boundary, 3) == [data, b"second", data]


def test_bytes_before_the_first_and_after_the_last_boundary_are_ignored() -> None:
    body, boundary = form(("image", b"x"))
    assert images_of(b"preamble\r\n" + body + b"epilogue\r\n", boundary, 1) == [b"x"]


def test_one_image_more_than_allowed_is_refused() -> None:
    body, boundary = form(*[("image", b"x")] * 4)
    assert len(images_of(body, boundary, 4)) == 4
    with pytest.raises(TooLarge, match="more than 3 images"):
        images_of(body, boundary, 3)


def test_a_form_cut_short_anywhere_is_refused_and_never_answered_in_part() -> None:
    body, boundary = form(("image", b"first"), ("image", b"second"))
    last = len(body) - len(b"\r\n")
    for end in range(last):
        with pytest.raises(ServiceError):
            images_of(body[:end], boundary, 9)
    assert images_of(body[:last], boundary, 9) == [b"first", b"second"]


def test_a_part_of_another_name_is_refused_by_its_name() -> None:
    body, boundary = form(("image", b"x"), ("photo", b"y"))
    with pytest.raises(BadRequest, match="named 'photo'"):
        images_of(body, boundary, 9)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b--",
        b"--b\r\n\r\nno headers\r\n--b--",
        b"--b\r\nContent-Type: image/png\r\n\r\nno name\r\n--b--",
        b"--b\r\nContent-Disposition: form-data; name=image\r\nno end of headers\r\n--b--",
        b"--b\r\nX: " + bytes(9000) + b"\r\n\r\nlong headers\r\n--b--",
    ],
)
def test_a_malformed_form_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        images_of(body, b"b", 9)


def test_the_boundary_is_read_from_the_content_type_quoted_or_not() -> None:
    assert boundary_of('multipart/form-data; boundary="a b"') == b"a b"
    assert boundary_of("Multipart/Form-Data;boundary=x;charset=utf-8") == b"x"
    assert boundary_of("multipart/mixed; boundary=x") is None
    with pytest.raises(BadRequest, match="boundary"):
        boundary_of("multipart/form-data")
