"""Requests that the service refuses: each gets its status and a message, and the next good request is answered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
LOSSY = 0.8
PNG = {"content-type": "image/png"}


async def post(http: httpx.AsyncClient, body: bytes, path: str = "/v1/predict", **headers: str) -> httpx.Response:
    return await http.post(path, content=body, headers={**PNG, **headers})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2]], "2 values are needed"),
        ([[1, 2], [3, "x"]], "b must be"),
        ([[1, 2], [3]], "b must be"),
        ([[1, 2], [True, 4]], "b must be"),
        ([1, 2], "a must be"),
    ],
)
async def test_a_label_that_does_not_fit_the_task_is_refused(
    http: httpx.AsyncClient, values: list[Any], message: str
) -> None:
    request = {"sample_id": "0" * 32, "annotator": "ada", "token": "t", "label": {"values": values}}
    reply = await http.post("/v1/queue/label", json=request)
    assert reply.status_code == 422
    assert message in reply.json()["error"]["message"]


async def test_requests_that_are_malformed_are_told_where(http: httpx.AsyncClient) -> None:
    for body in ({"n": "1", "annotator": "ada", "token": "t"}, {"n": 1}, {"n": True, "annotator": "a", "token": "t"}):
        reply = await http.post("/v1/queue/lease", json=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["message"].startswith("body.")


async def test_unknown_paths_models_methods_and_samples_have_their_status(http: httpx.AsyncClient, grey: Grey) -> None:
    replies = [
        (await http.get("/v1/nothing"), 404, "not_found"),
        (await post(http, grey(0.2), "/v1/models/pose/predict"), 404, "not_found"),
        (await http.get("/v1/predict"), 405, "method_not_allowed"),
        (await http.get(f"/v1/samples/{'0' * 32}/image"), 404, "not_found"),
    ]
    for reply, status, code in replies:
        assert reply.status_code == status
        error = reply.json()["error"]
        assert error["code"] == code
        assert error["request_id"] == reply.headers["x-request-id"]


async def test_errors_under_v2_are_plain_strings(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v2/nothing")).json() == {"error": "Not Found: see /docs for what there is"}


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "image/png", 400),
        (b"some text", "image/png", 415),
        (b"some text", "text/plain", 415),
        (b"\x89PNG\r\n\x1a\n", "image/png", 422),
    ],
)
async def test_bad_bodies_get_the_status_of_the_design_and_the_next_good_one_its_answer(
    http: httpx.AsyncClient, grey: Grey, body: bytes, content_type: str, status: int
) -> None:
    assert (await post(http, body, **{"content-type": content_type})).status_code == status
    assert (await post(http, grey(0.2))).status_code == 200


async def test_a_good_image_under_a_content_type_that_is_none_is_told_what_to_send(
    http: httpx.AsyncClient, grey: Grey
) -> None:
    reply = await post(http, grey(0.2), **{"content-type": "application/x-www-form-urlencoded"})
    assert reply.status_code == 415
    assert "Content-Type image/jpeg" in reply.json()["error"]["message"]
    assert (await post(http, grey(0.2), **{"content-type": "image/jpeg"})).status_code == 200  # content decides


async def test_a_body_over_the_limit_is_refused_with_and_without_content_length(
    open_service: OpenService, grey: Grey
) -> None:
    http = await open_service(max_body_bytes=1000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(100)

    declared = await post(http, bytes(1001))
    streamed = await http.post("/v1/predict", content=chunks(), headers=PNG)
    lease = await http.post("/v1/queue/lease", content=chunks(), headers={"content-type": "application/json"})
    for reply in (declared, streamed, lease):
        assert reply.status_code == 413
        assert "1000 bytes" in reply.json()["error"]["message"]
    assert (await post(http, grey(0.2))).status_code == 200


async def test_an_image_over_the_pixel_limit_is_refused(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(max_pixels=100)
    assert (await post(http, grey(0.2, size=(11, 10)))).status_code == 413
    assert (await post(http, grey(0.2, size=(10, 10)))).status_code == 200


async def test_more_images_than_are_admitted_are_answered_429_with_retry_after(
    open_service: OpenService, encode: Callable[..., bytes]
) -> None:
    http = await open_service(max_in_flight=1)
    slow = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)))
    replies = await asyncio.gather(*(post(http, slow) for _ in range(8)))
    statuses = sorted(reply.status_code for reply in replies)
    assert statuses == [200] + [429] * 7
    assert all(reply.headers["retry-after"] for reply in replies if reply.status_code == 429)
    assert (await post(http, slow)).status_code == 200


async def test_slow_uploads_keep_nobody_out(open_service: OpenService, grey: Callable[..., bytes]) -> None:
    http = await open_service(max_in_flight=2, max_in_flight_bytes=4000)
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def dawdle(image: bytes) -> AsyncIterator[bytes]:
        yield image[:10]
        begun.release()
        await go_on.wait()
        yield image[10:]

    image = grey(0.2)
    headers = {"content-type": "image/png", "content-length": str(len(image))}
    slow = [asyncio.create_task(http.post("/v1/predict", content=dawdle(image), headers=headers)) for _ in range(6)]
    for _ in slow:
        await begun.acquire()
    assert (await post(http, image)).status_code == 200
    go_on.set()
    assert 200 in {reply.status_code for reply in await asyncio.gather(*slow)}


async def test_an_answer_that_comes_too_late_is_a_504(open_service: OpenService, encode: Callable[..., bytes]) -> None:
    http = await open_service(request_timeout_s=0.001)
    slow = encode(Image.new("RGB", (3000, 3000)))
    reply = await post(http, slow)
    assert reply.status_code == 504
    assert "LOSSCAST_REQUEST_TIMEOUT_S" in reply.json()["error"]["message"]


async def test_a_body_that_does_not_come_is_told_apart_from_a_slow_answer(open_service: OpenService) -> None:
    http = await open_service(upload_timeout_s=0.05)

    async def silence() -> AsyncIterator[bytes]:
        yield b"\x89PNG"
        await asyncio.Event().wait()

    reply = await http.post("/v1/predict", content=silence(), headers=PNG)
    assert reply.status_code == 408
    assert reply.json()["error"]["code"] == "upload_timeout"
