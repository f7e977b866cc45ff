import pytest
from starlette.types import Message

from service.edge.limits import check_length, limited
from service.errors import BadRequest, TooLarge
from service.inference.intake import Intake

MAX_BYTES = 10


@pytest.mark.parametrize("length", [None, b"0", b"10"])
def test_a_body_up_to_the_limit_may_be_announced(length: bytes | None) -> None:
    check_length(Intake("id", content_length=length), MAX_BYTES)


@pytest.mark.parametrize(("length", "error"), [(b"11", TooLarge), (b"", BadRequest), (b"-1", BadRequest)])
def test_a_larger_body_and_a_length_that_is_no_number_are_refused(length: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_length(Intake("id", content_length=length), MAX_BYTES)


async def test_a_body_is_refused_with_the_first_byte_above_the_limit() -> None:
    async def five_bytes() -> Message:
        return {"type": "http.request", "body": b"12345", "more_body": True}

    receive = limited(five_bytes, MAX_BYTES)
    assert await receive() == await receive()
    with pytest.raises(TooLarge, match="over the limit of 10 bytes"):
        await receive()
