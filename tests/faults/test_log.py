"""The log of a real service: each line is JSON with the ids of its request, and nothing private is in it."""

import base64
import io
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import orjson
import pytest
import stamina
from PIL import Image, PngImagePlugin

EXIT_HUNG = 70
FINE, LOSSY, RAISES, HANGS = 0.4, 0.7, 0.8, 1.0
PNG = {"Content-Type": "image/png"}
StartService = Callable[..., Any]
Ask = tuple[str, str, dict[str, Any]]  # method, path and what httpx takes


def _lines(log: str) -> list[dict[str, Any]]:
    """All lines but the greeting, which goes to stdout."""
    before, _, greeted = log.partition("Losscast serves")
    return [orjson.loads(line) for line in (before + greeted.partition("/metrics\n")[2]).split("\n") if line]


def _with_text(marker: str) -> bytes:
    """A lossy image as a PNG that holds the marker as plain text."""
    file, text = io.BytesIO(), PngImagePlugin.PngInfo()
    text.add_text("Comment", marker)
    Image.fromarray(np.full((8, 8), round(255 * LOSSY), np.uint8)).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def test_a_failed_request_and_a_journalled_sample_are_one_line_each_and_a_good_prediction_is_none(
    start_service: StartService, grey: Callable[..., bytes]
) -> None:
    service = start_service()
    for name, brightness in (("good", FINE), ("flagged", LOSSY)):
        headers = {**PNG, "X-Request-Id": name}
        reply = service.http.post("/v1/predict", content=grey(brightness), headers=headers)
        assert reply.status_code == 200
    refused = service.http.post("/v1/predict", content=b"no image", headers={**PNG, "X-Request-Id": "refused"})
    assert refused.status_code == 415
    access = [line for line in _lines(service.log) if line["logger"] == "service.access"]
    for line in access:
        assert line.pop("timestamp")
    ms = access[1].pop("ms")
    assert 0 <= ms < 60_000
    assert access == [
        {
            "level": "INFO", "logger": "service.access", "event": "sample journalled", "request_id": "flagged",
            "sample_id": reply.json()["sample_id"], "model": "tiny", "version": "1", "lane": "predicted_loss",
            "reasons": ["predicted_loss"],
        },
        {
            "level": "INFO", "logger": "service.access", "event": "request failed", "request_id": "refused",
            "status": 415, "code": "unsupported_image", "method": "POST", "route": "/v1/predict",
        },
    ]  # fmt: skip


def test_no_image_and_no_key_is_in_the_log_after_any_error(start_service: StartService) -> None:
    key, wrong, marker = secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(16)
    image = _with_text(marker)
    in_base64 = base64.b64encode(image).decode()
    service = start_service(
        LOSSCAST_API_KEYS=f"another-one,{key}",
        LOSSCAST_MAX_BODY_BYTES="100000",
        LOSSCAST_REDIS_URL=f"redis://user:{key}@127.0.0.1:9/0",  # no server is there
        LOSSCAST_REDIS_TIMEOUT_S="0.2",
    )
    right = {"Authorization": f"Bearer {key}", **PNG}
    refused = [{**PNG, "Authorization": text} for text in (f"Bearer {wrong}", f"Basic {wrong}", wrong, "")]
    asks: list[Ask] = [("POST", "/v1/predict", {"headers": headers, "content": image}) for headers in refused]
    for held in (key, wrong, marker, quote(in_base64, safe="")):
        asks += _asks_with(held, image, right)
    asks += [
        ("POST", "/v1/predict", {"headers": {**right, "X-Request-Id": key}, "content": image[:60]}),
        ("POST", "/v1/predict", {"headers": right, "content": image[:-30] + os.urandom(30)}),
        ("POST", "/v1/predict", {"headers": right, "content": 2000 * image}),
        ("POST", "/v1/predict", {"headers": right, "files": [("image", ("x", image)), ("image", ("y", image[:50]))]}),
        ("POST", "/v1/predict", {"headers": right, "content": image}),  # flagged; the drain cannot deliver it
    ]
    statuses = {service.http.request(method, path, **more).status_code for method, path, more in asks}
    _raw(service.http.base_url, f"NONSENSE {key} {marker}\r\n{wrong}\r\n\r\n".encode() + image)
    _raw(service.http.base_url, f"POST /{key}{marker} HTTP/1.1\r\nX: {wrong}{'x' * 70_000}\r\n\r\n".encode() + image)
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert "the drain (feed) failed and will try again" in service.log
    assert statuses >= {200, 400, 401, 403, 404, 405, 413, 415, 422, 503}
    assert service.stop() == 0
    assert len([line for line in _lines(service.log) if line["event"].startswith("request failed")]) > 50
    for private in (key, wrong, marker, in_base64[:24], in_base64[40:64], repr(image[:20])[2:-1], image[:20].hex()):
        assert private not in service.log


def _asks_with(held: str, image: bytes, right: dict[str, str]) -> list[Ask]:
    """Requests that carry `held` where it does not belong."""
    paths = (
        f"/v1/predict?operating_point={held}", f"/v1/predict?key={held}", f"/v1/models/{held}/predict",
        f"/v1/models/tiny/versions/{held}/predict", f"/v2/models/tiny/versions/{held}/infer", f"/{held}",
        f"/v2/repository/models/{held}/load", f"/v1/labels?model={held}",
    )  # fmt: skip
    names = ("Content-Type", "X-Source", "X-Request-Timeout-Ms", "traceparent", "Content-Encoding")
    as_json = {**right, "Content-Type": "application/json"}
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [held]}
    tensors: tuple[Any, ...] = ({"inputs": [tensor]}, {"inputs": held}, {"inputs": [{**tensor, "name": held}]}, held)
    about = {"n": held, "token": held, "sample_id": held, "annotator": held, "label": {"values": held}}
    line = f'{{"sample_id": "{held}", "label": "{held}"'.encode()
    asks: list[Ask] = [
        *((method, path, {"headers": right, "content": image}) for path in paths for method in ("POST", "PUT")),
        *(
            ("POST", path, {"headers": right | {name: held}, "content": image})
            for name in names
            for path in ("/v1/predict", "/v2/models/tiny/infer")
        ),
        *(("POST", "/v2/models/tiny/infer", {"headers": as_json, "json": body}) for body in tensors),
        *(
            ("POST", f"/v1/queue/{verb}", {"headers": as_json, "json": about})
            for verb in ("lease", "label", "skip", "reject", "extend")
        ),
        ("POST", "/v1/labels", {"headers": as_json, "content": line}),
        ("DELETE", f"/v1/samples/{held}", {"headers": right}),
    ]
    return asks


def _raw(base: httpx.URL, text: bytes) -> None:
    with socket.create_connection((base.host, base.port), timeout=10) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


@pytest.mark.slow
def test_a_model_that_fails_or_hangs_is_logged_in_the_same_format(
    start_service: StartService, faulty_store: Path, grey: Callable[..., bytes]
) -> None:
    service = start_service(LOSSCAST_BUNDLES=str(faulty_store), LOSSCAST_HANG_S="1")
    for brightness in (RAISES, HANGS):
        service.http.post("/v1/predict", content=grey(brightness), headers={**PNG, "X-Request-Id": f"{brightness}"})
    assert service.process.wait(30) == EXIT_HUNG
    service.http.close()
    lines = _lines(service.log)
    failed = [line for line in lines if line["event"].startswith("request failed")]
    assert [(line["level"], line["code"], line["request_id"]) for line in failed] == [
        ("ERROR", "model_fault", "0.8"), ("WARNING", "unavailable", "1.0"),
    ]  # fmt: skip
    (critical,) = [line for line in lines if line["level"] == "CRITICAL"]
    assert critical["event"].startswith("tiny 1 hangs")


def test_uvicorns_messages_are_logged_in_the_same_format(start_service: StartService) -> None:
    service = start_service()
    _raw(service.http.base_url, b"this is no HTTP\r\n\r\n")
    assert [line["logger"] for line in _lines(service.log) if "Invalid HTTP" in line["event"]] == ["uvicorn.error"]


def test_the_console_format_is_for_people(start_service: StartService) -> None:
    service = start_service(LOSSCAST_LOG_FORMAT="console", NO_COLOR="1")
    assert service.http.get("/nowhere").status_code == 404
    (line,) = [line for line in service.log.splitlines() if "request failed" in line]
    assert "{" not in line
    assert "status=404" in line


def test_without_structlog_the_service_says_what_to_install(tmp_path: Path) -> None:
    block = "import sys; sys.modules['structlog'] = None; import losscast; sys.argv[1:] = ['serve']; losscast.main()"
    environment = {**os.environ, "LOSSCAST_STATE": str(tmp_path), "COLUMNS": "200"}
    ended = subprocess.run([sys.executable, "-c", block], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "structlog is missing: pip install 'losscast[cpu]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_everything_logged_during_a_stop_is_in_the_same_format(start_service: StartService) -> None:
    service = start_service()
    assert service.stop(signal.SIGINT) == 0
    assert all(line["level"] == "INFO" for line in _lines(service.log))
