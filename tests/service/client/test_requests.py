import inspect
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import httpx
import pytest

from service.client import AsyncLosscastClient, LosscastClient, requests, version_requests
from service.client.transport import ApiRequest


@pytest.mark.parametrize("client", [LosscastClient, AsyncLosscastClient])
@pytest.mark.parametrize(("module", "fewest"), [(requests, 14), (version_requests, 6)])
def test_a_client_has_a_method_for_every_request_with_its_parameters_and_documentation(
    module: ModuleType, fewest: int, client: type[Any]
) -> None:
    names = [
        name
        for name, function in vars(module).items()
        if _builds_a_request(function) and function.__module__ == module.__name__ and name[0] != "_"
    ]
    assert len(names) >= fewest
    for name in names:
        own, method = getattr(module, name), getattr(client, name)
        assert method.__doc__ == own.__doc__
        signature, (reply,) = inspect.signature(method), get_args(inspect.signature(own).return_annotation)
        assert list(signature.parameters) == ["self", *inspect.signature(own).parameters]
        assert signature.return_annotation == get_type_hints(method)["return"] == reply


def _builds_a_request(function: Any) -> bool:
    return inspect.isfunction(function) and get_origin(inspect.signature(function).return_annotation) is ApiRequest


def test_names_cannot_leave_their_place_in_the_path() -> None:
    assert requests.image("../../v1/queue?x").path == "/v1/samples/..%2F..%2Fv1%2Fqueue%3Fx/image"
    assert requests.predict(b"", model="a/b").path == "/v1/models/a%2Fb/predict"


def test_a_reply_of_a_newer_service_may_have_more_fields() -> None:
    reply = httpx.Response(200, json={"sample_id": "0" * 32, "erased": True, "new": 1})
    assert requests.erase("0" * 32).read(reply).erased is True


def test_a_request_that_lets_the_service_wait_gets_that_time_on_top() -> None:
    assert version_requests.promote("tiny", 2, expected_live=1, reason="a test", wait_s=60).wait_s == 60
    assert version_requests.rollback("tiny", expected_live=2, reason="a test").wait_s == 10
    assert version_requests.history("tiny").wait_s == 0
