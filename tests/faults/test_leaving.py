"""Clients that leave before their answer, by real sockets against a real process."""

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import stamina
from PIL import Image

Encode = Callable[..., bytes]


def leave_early(service: Any, body: bytes, sent: int) -> None:
    """Sends a request, up to `sent` bytes of its body, and hangs up."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((service.http.base_url.host, service.http.base_url.port)) as client:
        client.sendall(head.encode() + body[:sent])


def counted(service: Any, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", service.http.get("/metrics").text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def wait_until(service: Any, name: str, value: float) -> None:
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            assert counted(service, name) == value, service.log


@pytest.mark.slow
def test_a_client_that_left_is_counted_and_its_image_is_not_computed(
    start_service: Callable[..., Any], encode: Encode, grey: Callable[..., bytes]
) -> None:
    service = start_service(LOSSCAST_DECODE_WORKERS="1")
    slow = encode(Image.new("L", (5000, 5000)))  # half a second to decode, in 24 kB
    for _ in range(6):
        leave_early(service, slow, len(slow))
    for _ in range(3):
        leave_early(service, slow, 100)
    wait_until(service, 'losscast_requests_total{code="499",endpoint="/v1/predict"}', 9)
    wait_until(service, 'losscast_rejected_total{reason="client_left"}', 9)
    wait_until(service, "losscast_in_flight", 0)
    wait_until(service, "losscast_in_flight_bytes", 0)
    reply = service.http.post("/v1/predict", content=grey(0.2), headers={"content-type": "image/png"})
    assert reply.status_code == 200
    assert counted(service, 'losscast_verdicts_total{model="tiny",verdict="passed"}') == 1
