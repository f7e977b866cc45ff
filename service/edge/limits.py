"""The limit on a body's size: on the size that a request announces, and on the bytes that come."""

from starlette.types import Message, Receive

from service.errors import BadRequest, TooLarge
from service.inference.intake import Intake


def check_length(intake: Intake, max_body_bytes: int) -> None:
    """Raises BadRequest for a Content-Length that is no number, TooLarge for one above the limit."""
    length = intake.content_length
    if length is None:
        return
    if not length.isdigit():
        raise BadRequest("Content-Length must be a whole number")
    if int(length) > max_body_bytes:
        raise _too_large(max_body_bytes)


def limited(receive: Receive, max_body_bytes: int) -> Receive:
    """`receive`, which raises TooLarge once more bytes have come."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_body_bytes:
            raise _too_large(max_body_bytes)
        return message

    return counted


def _too_large(max_body_bytes: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {max_body_bytes} bytes: send a smaller image")
