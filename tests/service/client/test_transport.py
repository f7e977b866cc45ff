from typing import Any

import httpx
import pytest

from service.client import AsyncLosscastClient, LosscastClient, requests, transport
from service.client.transport import ClientError, RetryHook


@pytest.mark.parametrize("client", [LosscastClient, AsyncLosscastClient])
@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", ""])
def test_a_url_that_is_no_http_address_is_refused_at_once(client: type[Any], url: str) -> None:
    with pytest.raises(ClientError, match=r"write it like http://127\.0\.0\.1:8000"):
        client(url)


@pytest.mark.parametrize(
    ("builder", "fields", "message"),
    [
        (requests.lease, {"annotator": ""}, "annotator: String should have at least 1 character"),
        (requests.lease, {"annotator": "ada", "n": 1000}, "n: Input should be less than or equal to 100"),
        (requests.label, {"sample": "x", "values": [1]}, "annotator: Input should be a valid string"),
        (requests.label, {"sample": "x", "annotator": "ada"}, "a label has either values or keypoints"),
        (requests.predict, {"image": b"", "source": "a\nb"}, "printable ASCII"),
    ],
)
def test_a_request_that_the_service_would_refuse_is_not_sent(
    builder: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientError, match=message) as refused:
        transport.build(builder, **fields)
    assert refused.value.status is None


@pytest.mark.parametrize(
    ("response", "message", "retry_after_s"),
    [
        (httpx.Response(503, json={"error": {"message": "draining"}}, headers={"retry-after": "5"}), "draining", 5.0),
        (httpx.Response(409, json={"error": "a string"}), "a string", None),
        (httpx.Response(502, text="<html>"), "HTTP 502 .* is this a Losscast service", None),
        (httpx.Response(503, json=[], headers={"retry-after": "Wed, 21 Oct 2026"}), "HTTP 503", None),
        (httpx.Response(200, text="<html>"), "an unexpected answer", None),
    ],
)
def test_an_error_carries_the_message_of_the_service(
    response: httpx.Response, message: str, retry_after_s: float | None
) -> None:
    response.request = httpx.Request("GET", "http://service/v1/queue/stats")
    with pytest.raises(ClientError, match=message) as refused:
        transport.read(requests.stats(), response)
    assert refused.value.status == response.status_code
    assert refused.value.retry_after_s == retry_after_s


@pytest.mark.parametrize("status", [None, 429, 503])
def test_no_answer_and_a_busy_service_are_tried_again(status: int | None) -> None:
    assert RetryHook(60)(ClientError("", status)) is True


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500, 504])
def test_other_answers_are_final(status: int) -> None:
    assert RetryHook(60)(ClientError("", status)) is False


def test_the_next_try_waits_as_long_as_the_service_asks() -> None:
    assert RetryHook(60)(ClientError("", 503, retry_after_s=5.0)) == 5.0


def test_a_wait_beyond_the_limit_gives_up_at_once() -> None:
    assert RetryHook(4)(ClientError("", 503, retry_after_s=5.0)) is False
    assert RetryHook(0)(ClientError("", 503)) is False


def test_errors_of_other_kinds_are_not_tried_again() -> None:
    assert RetryHook(60)(ValueError()) is False
