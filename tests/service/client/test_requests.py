import inspect
from typing import Any, get_args, get_origin, get_type_hints

import httpx
import pytest

from service.client import LosscastClient
from service.client import requests as calls
from service.client import transport as sending
from service.client.asynchronous import AsyncLosscastClient
from service.client.transport import Call, ClientError

BOTH = pytest.mark.parametrize("client", [LosscastClient, AsyncLosscastClient])


@BOTH
def test_a_client_has_a_method_for_every_call_with_its_parameters_and_documentation(client: type[Any]) -> None:
    made = [name for name, function in vars(calls).items() if name[0] != "_" and _makes(function)]
    assert len(made) >= 14
    for name in made:
        own, method = getattr(calls, name), getattr(client, name)
        assert method.__doc__ == own.__doc__
        signature, (reply,) = inspect.signature(method), get_args(inspect.signature(own).return_annotation)
        assert list(signature.parameters) == ["self", *inspect.signature(own).parameters]
        assert signature.return_annotation == get_type_hints(method)["return"] == reply


def _makes(function: Any) -> bool:
    """Whether it makes a Call."""
    return inspect.isfunction(function) and get_origin(inspect.signature(function).return_annotation) is Call


@BOTH
@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", ""])
def test_an_address_that_is_none_is_refused_at_once(client: type[Any], url: str) -> None:
    with pytest.raises(ClientError, match=r"write it like http://127\.0\.0\.1:8000"):
        client(url)


@pytest.mark.parametrize(
    ("call", "fields", "message"),
    [
        (calls.lease, {"annotator": ""}, "annotator: String should have at least 1 character"),
        (calls.lease, {"annotator": "ada", "n": 1000}, "n: Input should be less than or equal to 100"),
        (calls.label, {"sample": "x", "values": [1]}, "annotator: Input should be a valid string"),
        (calls.label, {"sample": "x", "annotator": "ada"}, "a label has either values or keypoints"),
        (calls.predict, {"image": b"", "source": "a\nb"}, "printable ASCII"),
    ],
)
def test_what_would_be_refused_is_not_sent(call: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message) as refused:
        sending.build(call, **fields)
    assert refused.value.status is None


def test_names_cannot_leave_their_place_in_the_path() -> None:
    assert calls.image("../../v1/queue?x").path == "/v1/samples/..%2F..%2Fv1%2Fqueue%3Fx/image"
    assert calls.predict(b"", model="a/b").path == "/v1/models/a%2Fb/predict"


@pytest.mark.parametrize(
    ("response", "message", "retry_after_s"),
    [
        (httpx.Response(503, json={"error": {"message": "draining"}}, headers={"retry-after": "5"}), "draining", 5.0),
        (httpx.Response(409, json={"error": "a string"}), "a string", None),
        (httpx.Response(502, text="<html>"), "HTTP 502 .* is this a Losscast service", None),
        (httpx.Response(503, json=[], headers={"retry-after": "Wed, 21 Oct 2026"}), "HTTP 503", None),
        (httpx.Response(200, text="<html>"), "no such answer", None),
    ],
)
def test_a_refusal_carries_what_the_service_said(
    response: httpx.Response, message: str, retry_after_s: float | None
) -> None:
    response.request = httpx.Request("GET", "http://service/v1/queue/stats")
    with pytest.raises(ClientError, match=message) as refused:
        sending.read(calls.stats(), response)
    assert refused.value.status == response.status_code
    assert refused.value.retry_after_s == retry_after_s


def test_a_reply_of_a_newer_service_that_says_more_is_understood() -> None:
    reply = httpx.Response(200, json={"sample_id": "0" * 32, "erased": True, "new": 1})
    assert calls.erase("0" * 32).read(reply).erased is True
