"""Headers are read once, and each is checked where it matters."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from service.edge.headers import announced_bytes, check_source, form_boundary, operating_point, read, time_allowed_s
from service.errors import BadRequest, UnsupportedImage

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
MAX_BODY_BYTES = 1000


def scope(query: bytes = b"", **headers: bytes) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return {"type": "http", "headers": pairs, "query_string": query}


def test_a_request_without_headers_has_a_request_id_of_its_own_and_the_service_decides_the_rest() -> None:
    one, other = read(scope()), read(scope())
    assert len(one.request_id) == len(other.request_id) == 32
    assert one.request_id != other.request_id
    assert (one.source, one.key, operating_point(one), form_boundary(one)) == (None, None, None, None)
    assert time_allowed_s(one, 10.0) is None
    assert announced_bytes(one, MAX_BODY_BYTES) == MAX_BODY_BYTES
    check_source(one)


def test_everything_that_a_request_says_is_read() -> None:
    intake = read(
        scope(
            b"operating_point=strict",
            x_request_id=b"mine",
            x_source=b"camera 7",
            x_request_timeout_ms=b"1500",
            authorization=b"bearer secret",
            content_length=b"12",
            content_type=b"multipart/form-data; boundary=b",
            content_encoding=b"gzip",
            inference_header_content_length=b"7",
        )
    )
    assert (intake.request_id, intake.source, intake.key) == ("mine", "camera 7", b"secret")
    assert (intake.content_encoding, intake.json_length) == ("gzip", "7")
    assert (operating_point(intake), form_boundary(intake)) == ("strict", b"b")
    assert (time_allowed_s(intake, 10.0), time_allowed_s(intake, 1.0)) == (1.5, 1.0)
    assert announced_bytes(intake, MAX_BODY_BYTES) == 12


def test_the_line_gets_the_request_without_its_key_and_headers() -> None:
    intake = read(scope(x_request_id=b"mine", x_source=b"camera 7", authorization=b"Bearer secret"))
    assert intake.for_line("strict", 5.0)[:4] == ("mine", "camera 7", "strict", 5.0)
    assert "secret" not in repr(intake.for_line("strict", 5.0))


@pytest.mark.parametrize("header", [b"", b"Basic secret", b"Bearer", b"Bearer ", b"secret"])
def test_another_authorization_than_a_bearer_key_is_no_key(header: bytes) -> None:
    assert read(scope(authorization=header)).key is None


@pytest.mark.parametrize("sent", [b"", b"x" * 129, b"a\tb"])
def test_a_request_id_that_cannot_be_logged_is_replaced(sent: bytes) -> None:
    assert read(scope(x_request_id=sent)).request_id.encode("latin-1") != sent


@pytest.mark.parametrize("sent", [b"", b"0", b"-1", b"1.5", b"1e3", b"1" * 10])
def test_a_timeout_that_is_no_number_of_milliseconds_is_refused(sent: bytes) -> None:
    with pytest.raises(BadRequest, match="X-Request-Timeout-Ms"):
        time_allowed_s(read(scope(x_request_timeout_ms=sent)), 10.0)


def test_a_body_of_another_type_is_refused() -> None:
    with pytest.raises(UnsupportedImage, match="text/plain"):
        form_boundary(read(scope(content_type=b"text/plain; charset=utf-8")))


async def test_a_wrong_key_is_reported_before_a_wrong_header(open_service: OpenService) -> None:
    http = await open_service(api_keys="secret")
    wrong = {"x-source": "x" * 129, "x-request-timeout-ms": "soon", "content-type": "text/plain"}
    for path in ("/v1/predict", "/v2/models/tiny/infer"):
        assert (await http.post(path, headers=wrong)).status_code == 401
        assert (await http.post(path, headers={**wrong, "authorization": "Bearer other"})).status_code == 403
    wrong["authorization"] = "Bearer secret"
    assert (await http.post("/v1/predict", headers=wrong)).status_code == 415
    assert "X-Source" in (await http.post("/v2/models/tiny/infer", headers=wrong)).text
    del wrong["x-source"]
    assert "X-Request-Timeout-Ms" in (await http.post("/v2/models/tiny/infer", headers=wrong)).text
