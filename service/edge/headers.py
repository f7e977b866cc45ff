"""The part of a request that comes before its body, headers and query, is read once into an `Intake`.

The middleware calls `read`, which refuses nothing: a wrong key is reported before a wrong header. The other functions
each check one value, for the route that needs it.
"""

import random
import time
from urllib.parse import parse_qs

from starlette.types import Scope

from service.edge.multipart import boundary_of
from service.errors import BadRequest, UnsupportedImage
from service.inference.intake import Intake
from service.schemas.predictions import MAX_SOURCE, is_source

MAX_REQUEST_ID = 128
MAX_TIMEOUT_DIGITS = 9


def read(scope: Scope) -> Intake:
    """The request of an ASGI scope. Of a header that comes twice, the last one counts."""
    headers = dict(scope["headers"])
    return Intake(
        _request_id(headers.get(b"x-request-id", b"")),
        _text(headers.get(b"x-source")),
        arrived_at=time.monotonic(),
        key=_bearer(headers.get(b"authorization", b"")),
        content_length=headers.get(b"content-length"),
        content_type=headers.get(b"content-type", b""),
        content_encoding=headers.get(b"content-encoding", b"identity").decode("latin-1"),
        json_length=_text(headers.get(b"inference-header-content-length")),
        timeout_ms=headers.get(b"x-request-timeout-ms"),
        query=scope["query_string"],
    )


def check_source(intake: Intake) -> None:
    """Raises BadRequest for an X-Source that cannot be the name of a camera or client."""
    if intake.source is not None and not is_source(intake.source):
        raise BadRequest(
            f"X-Source must be 1 to {MAX_SOURCE} printable ASCII characters: the name of a camera or client"
        )


def time_allowed_s(intake: Intake, at_most_s: float) -> float | None:
    """X-Request-Timeout-Ms in seconds; None when there is none. Raises BadRequest unless it is a whole number > 0."""
    sent = intake.timeout_ms
    if sent is None:
        return None
    if not sent.isdigit() or len(sent) > MAX_TIMEOUT_DIGITS or not int(sent):
        raise BadRequest("X-Request-Timeout-Ms must be a whole number of milliseconds above 0, of at most 9 digits")
    return min(int(sent) / 1000, at_most_s)


def announced_bytes(intake: Intake, max_body_bytes: int) -> int:
    """The memory that the body may need: without a Content-Length it may be as large as any body."""
    return max_body_bytes if intake.content_length is None else int(intake.content_length)


def operating_point(intake: Intake) -> str | None:
    """The operating point that the query asks for."""
    if not intake.query:
        return None
    return parse_qs(intake.query.decode("latin-1"), keep_blank_values=True).get("operating_point", [None])[-1]


def form_boundary(intake: Intake) -> bytes | None:
    """The boundary of a form; None for a body that is an image itself. Raises UnsupportedImage for other bodies."""
    content_type = intake.content_type.decode("latin-1")
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type or media_type.startswith("image/") or media_type == "application/octet-stream":
        return None
    boundary = boundary_of(content_type)
    if boundary is None:
        raise UnsupportedImage(
            f"Content-Type {media_type} is not an image: send the raw bytes with Content-Type image/jpeg, image/png "
            "or image/webp, or several images as multipart/form-data"
        )
    return boundary


def _request_id(sent: bytes) -> str:
    request_id = sent.decode("latin-1")
    if 0 < len(request_id) <= MAX_REQUEST_ID and request_id.isprintable():
        return request_id
    return f"{random.getrandbits(128):032x}"


def _text(sent: bytes | None) -> str | None:
    return None if sent is None else sent.decode("latin-1")


def _bearer(authorization: bytes) -> bytes | None:
    scheme, _, key = authorization.partition(b" ")
    return key if key and scheme.lower() == b"bearer" else None
