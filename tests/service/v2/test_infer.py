"""Inference by the protocol's own client against a real process, and by hand for requests that it would not send."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import stamina
from numpy.typing import NDArray
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from service.client import LosscastClient

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
OUTPUTS = ("prediction", "score", "predicted_loss", "ood_score", "embedding", "lossy")


@pytest.fixture(scope="module")
def triton(service_url: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(service_url.removeprefix("http://")) as client:
        yield client


@pytest.fixture
def raw(service_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url) as client:
        yield client


def files(*images: bytes) -> InferInput:
    tensor = InferInput("image", [len(images)], "BYTES")
    return tensor.set_data_from_numpy(np.array(images, np.object_))


def canvases(pixels: NDArray[np.uint8], *, binary: bool = True) -> InferInput:
    return InferInput("image", list(pixels.shape), "UINT8").set_data_from_numpy(pixels, binary_data=binary)


def flat(*brightness: float) -> NDArray[np.uint8]:
    return np.stack([np.full((8, 8, 1), round(255 * one), np.uint8) for one in brightness])


def infer(client: InferenceServerClient, tensor: InferInput, model: str = "tiny", **options: Any) -> InferResult:
    return client.infer(model, [tensor], **options)


def arrays(result: InferResult) -> dict[str, NDArray[Any]]:
    return {one["name"]: result.as_numpy(one["name"]) for one in result.get_response()["outputs"]}


def test_one_image_has_the_same_numbers_by_v1_as_a_file_and_as_a_tensor(
    triton: InferenceServerClient, client: LosscastClient, grey: Grey
) -> None:
    image = grey(0.7)
    reply = client.predict(image)
    results = [
        infer(triton, files(image)),
        infer(triton, canvases(flat(0.7))),
        infer(triton, canvases(flat(0.7), binary=False)),
        infer(triton, files(image), outputs=[InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]),
    ]
    for result in map(arrays, results):
        assert tuple(result) == OUTPUTS
        assert result["prediction"][0] == pytest.approx(np.array(reply.prediction.values))
        assert result["predicted_loss"].item() == pytest.approx(reply.predicted_loss)
        assert result["ood_score"].item() == pytest.approx(reply.ood_score)
        assert bool(result["lossy"].item()) == reply.verdict.lossy
        assert result["embedding"].shape == (1, 4)
    for one, other in zip(map(arrays, results[:-1]), map(arrays, results[1:]), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in OUTPUTS)


def test_keypoints_of_a_file_are_in_its_own_pixels_and_of_a_tensor_in_the_canvas(
    triton: InferenceServerClient, grey: Grey
) -> None:
    assert arrays(infer(triton, files(grey(0.2, (80, 80)))))["prediction"].tolist() == [[[20, 20], [60, 60]]]
    assert arrays(infer(triton, canvases(flat(0.2))))["prediction"].tolist() == [[[2, 2], [6, 6]]]


def test_many_images_are_answered_in_their_order(triton: InferenceServerClient, grey: Grey) -> None:
    brightness = np.linspace(0.05, 0.95, 32)
    for tensor in (files(*map(grey, brightness)), canvases(flat(*brightness))):
        result = arrays(infer(triton, tensor))
        assert result["score"][:, 0] == pytest.approx(brightness, abs=0.003)
        assert result["lossy"][:, 0].tolist() == [bool(one > 0.5 or one < 0.1) for one in brightness]


def test_the_reply_names_model_version_id_and_operating_point(triton: InferenceServerClient, grey: Grey) -> None:
    result = infer(
        triton, files(grey(0.2)), request_id="mine", model_version="1", parameters={"operating_point": "budget"}
    )
    response = result.get_response()
    del response["outputs"]
    assert response == {
        "model_name": "tiny",
        "model_version": "1",
        "id": "mine",
        "parameters": {"operating_point": "budget"},
    }
    assert "id" not in infer(triton, files(grey(0.2))).get_response()


def test_only_the_outputs_asked_for_come_in_the_form_and_order_asked_for(
    triton: InferenceServerClient, grey: Grey
) -> None:
    asked = [InferRequestedOutput("lossy", binary_data=False), InferRequestedOutput("score", binary_data=True)]
    first, second = infer(triton, files(grey(0.8)), outputs=asked).get_response()["outputs"]
    assert first == {"name": "lossy", "datatype": "BOOL", "shape": [1, 1], "data": [True]}
    assert second == {"name": "score", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}}


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_is_answered(triton: InferenceServerClient, algorithm: str) -> None:
    result = infer(triton, canvases(flat(0.8)), request_compression_algorithm=algorithm)
    assert arrays(result)["lossy"].tolist() == [[True]]


def test_files_in_json_are_base64(raw: httpx.Client, grey: Grey) -> None:
    image = base64.b64encode(grey(0.8)).decode()
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [image]}
    reply = raw.post("/v2/models/tiny/infer", json={"inputs": [tensor], "outputs": [{"name": "lossy"}]})
    assert reply.json()["outputs"] == [{"name": "lossy", "datatype": "BOOL", "shape": [1, 1], "data": [True]}]


async def test_a_lossy_image_waits_for_its_label_as_the_file_it_was_or_as_a_png(
    http: httpx.AsyncClient, grey: Grey
) -> None:
    file, canvas = grey(0.9), flat(0.93)
    for datatype, shape, data in (
        ("BYTES", [1], [base64.b64encode(file).decode()]),
        ("UINT8", canvas.shape, canvas.tolist()),
    ):
        tensor = {"name": "image", "shape": shape, "datatype": datatype, "data": data}
        reply = await http.post("/v2/models/tiny/infer", json={"inputs": [tensor]}, headers={"X-Source": "camera-7"})
        assert reply.status_code == 200
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.05):
        with attempt:
            assert (await http.get("/v1/queue/stats")).json()["pending"] == 2
    leased = await http.post("/v1/queue/lease", json={"n": 2, "annotator": "ada", "token": "t"})
    as_canvas, as_file = leased.json()["samples"]  # the most valuable first
    assert as_canvas["source"] == as_file["source"] == "camera-7"
    assert (await http.get(as_file["image"])).content == file
    with Image.open(io.BytesIO((await http.get(as_canvas["image"])).content)) as png:
        assert png.format == "PNG"
        assert np.array_equal(np.asarray(png)[..., None], canvas[0])


async def test_every_image_of_a_request_is_admitted_and_let_go(open_service: OpenService) -> None:
    http = await open_service(max_in_flight=4)

    async def post(count: int) -> httpx.Response:
        tensor = {"name": "image", "shape": [count, 8, 8, 1], "datatype": "UINT8", "data": [50] * 64 * count}
        return await http.post("/v2/models/tiny/infer", json={"inputs": [tensor]})

    too_many = await post(5)
    assert too_many.status_code == 400
    assert "send 1 to 4" in too_many.json()["error"]
    replies = await asyncio.gather(*(post(3) for _ in range(8)))
    assert {reply.status_code for reply in replies} <= {200, 429}
    refused = [reply for reply in replies if reply.status_code == 429]
    assert refused
    assert all(reply.headers["retry-after"] for reply in refused)
    assert "losscast_in_flight 0.0" in (await http.get("/metrics")).text.splitlines()
    assert (await post(4)).status_code == 200


@pytest.mark.parametrize(
    ("tensor", "options", "status", "message"),
    [
        (files(b""), {}, "400", "image 0: the body is empty"),
        (files(b"text"), {}, "415", "image 0: "),
        (files(b"\x89PNG\r\n\x1a\n"), {}, "422", "image 0: "),
        (canvases(np.zeros((33, 8, 8, 1), np.uint8)), {}, "400", "send 1 to 32"),
        (canvases(np.zeros((1, 8, 8, 3), np.uint8)), {}, "400", "shape [n, 8, 8, 1]"),
        (canvases(flat(0.2)), {"parameters": {"operating_point": "none"}}, "400", "no operating point 'none'"),
        (canvases(flat(0.2)), {"outputs": [InferRequestedOutput("heat")]}, "400", "no output 'heat'"),
        (canvases(flat(0.2)), {"outputs": [InferRequestedOutput("score", class_count=1)]}, "400", "classification"),
        (canvases(flat(0.2)), {"priority": 1}, "400", "'priority'"),
        (canvases(flat(0.2)), {"sequence_id": 1}, "400", "'sequence_id'"),
        (canvases(flat(0.2)), {"timeout": 1}, "504", "no answer"),
        (canvases(flat(0.2)), {"model": "other"}, "404", "no model 'other'"),
        (canvases(flat(0.2)), {"model_version": "2"}, "404", "no version '2'"),
        (canvases(flat(0.2)), {"headers": {"X-Source": "x" * 129}}, "400", "X-Source"),
        (canvases(flat(0.2)), {"headers": {"X-Request-Timeout-Ms": "soon"}}, "400", "X-Request-Timeout-Ms"),
    ],
)
def test_requests_that_cannot_be_answered_get_the_documented_status(
    triton: InferenceServerClient, tensor: InferInput, options: dict[str, Any], status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException) as told:
        infer(triton, tensor, **options)
    assert told.value.status() == status
    assert message in told.value.message()


def test_a_bad_image_among_good_ones_is_named(triton: InferenceServerClient, grey: Grey) -> None:
    with pytest.raises(InferenceServerException, match=r"image 2: .*JPEG, PNG or WebP"):
        infer(triton, files(grey(0.2), grey(0.3), b"text", grey(0.4)))
    assert arrays(infer(triton, files(grey(0.2))))["lossy"].tolist() == [[False]]


@pytest.mark.parametrize(
    ("body", "header"),
    [(b"", None), (b"{}", "3"), (b"[" * 10_000, None), (b'{"inputs": NaN}', None), (b"\xff" * 100, "50")],
)
def test_a_body_that_is_not_a_request_is_refused_in_one_line(
    raw: httpx.Client, body: bytes, header: str | None
) -> None:
    headers = {"Inference-Header-Content-Length": header} if header else {}
    reply = raw.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert reply.status_code == 400
    assert list(reply.json()) == ["error"]
    assert reply.json()["error"].isprintable()


def test_another_compression_is_refused(raw: httpx.Client) -> None:
    reply = raw.post("/v2/models/tiny/infer", content=b"x", headers={"content-encoding": "br"})
    assert reply.status_code == 415
    assert "send gzip, deflate, or nothing" in reply.json()["error"]
