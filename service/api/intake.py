"""What every route that takes images asks of a request, before and while its body comes."""

import asyncio

from fastapi import Request

from service.api.resources import Resources
from service.errors import BadRequest, UploadTimeout
from service.schemas import MAX_SOURCE, is_source


def source_of(request: Request) -> str | None:
    """The camera or client that the images are from. Raises BadRequest for a header that cannot be one."""
    header = request.headers.get("x-source")
    if header is not None and not is_source(header):
        raise BadRequest(
            f"X-Source must be 1 to {MAX_SOURCE} printable ASCII characters: the name of a camera or client"
        )
    return header


def announced_bytes(request: Request, shared: Resources) -> int:
    """What the body may cost in memory, before it is read; one that says nothing may be of any size."""
    return int(request.headers.get("content-length", shared.settings.max_body_bytes))


async def read_body(request: Request, limit_s: float) -> bytes:
    """The body, once all of it is there. Raises UploadTimeout."""
    try:
        async with asyncio.timeout(limit_s):
            return await request.body()
    except TimeoutError as error:
        raise UploadTimeout(f"the body did not come within {limit_s:g} s: send a smaller image") from error
