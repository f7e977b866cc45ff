"""Predictions over HTTP: several images in one form, and time limits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
PNG = {"content-type": "image/png"}


async def post_form(http: httpx.AsyncClient, *images: bytes, path: str = "/v1/predict") -> httpx.Response:
    return await http.post(path, files=[("image", ("a.png", image)) for image in images])


async def test_the_images_of_a_form_are_answered_in_order_each_with_its_result_or_error(
    http: httpx.AsyncClient, grey: Grey
) -> None:
    images = [grey(0.2), b"no image", grey(0.4), b"", grey(0.3)]
    for path in ("/v1/predict", "/v1/models/tiny/predict"):
        reply = await post_form(http, *images, path=path)
        assert reply.status_code == 200
        results = reply.json()["results"]
        assert [result.get("error", {}).get("code") for result in results] == [
            None,
            "unsupported_image",
            None,
            "malformed",
            None,
        ]
        losses = [result["predicted_loss"] for result in results[::2]]
        assert losses == pytest.approx(np.exp([0.2, 0.4, 0.3]), rel=0.01)
        assert results[1]["error"]["request_id"] == reply.headers["x-request-id"]


async def test_an_image_of_a_form_is_the_same_sample_as_the_image_alone(http: httpx.AsyncClient, grey: Grey) -> None:
    alone = await http.post("/v1/predict", content=grey(0.9), headers=PNG)
    (result,) = (await post_form(http, grey(0.9))).json()["results"]
    assert result["sample_id"] == alone.json()["sample_id"]
    assert result["queue"] == "accepted"


async def test_a_form_takes_as_many_places_as_it_has_images(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(max_in_flight=4)
    assert (await post_form(http, *[grey(0.2)] * 4)).status_code == 200
    assert (await post_form(http, *[grey(0.2)] * 5)).status_code == 413
    crowd = await asyncio.gather(*(post_form(http, *[grey(0.2, size=(900, 900))] * 3) for _ in range(4)))
    statuses = sorted(reply.status_code for reply in crowd)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    lines = (await http.get("/metrics")).text.splitlines()
    assert "losscast_in_flight 0.0" in lines
    assert "losscast_in_flight_bytes 0.0" in lines


async def test_a_malformed_form_is_refused(http: httpx.AsyncClient) -> None:
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        reply = await http.post("/v1/predict", content=b"--y--", headers={"content-type": content_type})
        assert reply.status_code == 400


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "", "9" * 10, "\xb2"])
async def test_a_time_limit_that_is_no_number_is_refused(http: httpx.AsyncClient, grey: Grey, value: str) -> None:
    headers = {**PNG, "x-request-timeout-ms": value.encode("latin-1")}
    reply = await http.post("/v1/predict", content=grey(0.2), headers=headers)  # type: ignore[arg-type]  # a mix of str and bytes
    assert reply.status_code == 400
    assert "X-Request-Timeout-Ms" in reply.json()["error"]["message"]


async def test_a_request_ends_at_its_own_time_limit_below_that_of_the_service(
    open_service: OpenService, grey: Grey, encode: Callable[..., bytes]
) -> None:
    slow = encode(Image.new("RGB", (3000, 3000)))
    http = await open_service()
    assert (await post(http, grey(0.2), "60000")).status_code == 200
    late = await post(http, slow, "1")
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"


async def test_a_request_cannot_have_more_time_than_the_service_allows(
    open_service: OpenService, encode: Callable[..., bytes]
) -> None:
    http = await open_service(request_timeout_s=0.001)
    assert (await post(http, encode(Image.new("RGB", (3000, 3000))), "60000")).status_code == 504


async def test_the_deadline_counts_from_the_arrival_and_includes_a_slow_upload(http: httpx.AsyncClient) -> None:
    async def silence() -> Any:
        yield b"\x89PNG"
        await asyncio.Event().wait()

    reply = await http.post("/v1/predict", content=silence(), headers={**PNG, "x-request-timeout-ms": "20"})
    assert reply.status_code == 504


async def post(http: httpx.AsyncClient, body: bytes, timeout_ms: str) -> httpx.Response:
    return await http.post("/v1/predict", content=body, headers={**PNG, "x-request-timeout-ms": timeout_ms})
