import pytest

from service.client.patience import Patience
from service.client.transport import ClientError


@pytest.mark.parametrize("status", [None, 429, 503])
def test_no_answer_and_a_busy_service_are_worth_another_try(status: int | None) -> None:
    assert Patience(60)(ClientError("", status)) is True


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500, 504])
def test_other_answers_are_final(status: int) -> None:
    assert Patience(60)(ClientError("", status)) is False


def test_the_service_says_when_it_is_back() -> None:
    assert Patience(60)(ClientError("", 503, retry_after_s=5.0)) == 5.0


def test_who_would_have_to_wait_too_long_gives_up_at_once() -> None:
    assert Patience(4)(ClientError("", 503, retry_after_s=5.0)) is False
    assert Patience(0)(ClientError("", 503)) is False


def test_errors_that_are_not_of_a_call_are_not_tried_again() -> None:
    assert Patience(60)(ValueError()) is False
