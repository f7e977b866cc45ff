"""What every route that takes images asks of a request before its body comes. A request is its ASGI scope here."""

from collections.abc import Mapping
from typing import Any

from service.errors import BadRequest
from service.resources import Resources
from service.schemas.predictions import MAX_SOURCE, is_source


def source_of(scope: Mapping[str, Any]) -> str | None:
    """The camera or client that the images are from. Raises BadRequest for a header that cannot be one."""
    header = dict(scope["headers"]).get(b"x-source")
    source = None if header is None else header.decode("latin-1")
    if source is not None and not is_source(source):
        raise BadRequest(
            f"X-Source must be 1 to {MAX_SOURCE} printable ASCII characters: the name of a camera or client"
        )
    return source


def announced_bytes(scope: Mapping[str, Any], shared: Resources) -> int:
    """What the body may cost in memory, before it is read; one that says nothing may be of any size."""
    return int(dict(scope["headers"]).get(b"content-length", shared.settings.max_body_bytes))
