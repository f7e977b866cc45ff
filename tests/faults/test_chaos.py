"""Ten thousand requests of every kind by real sockets: each good one gets its own answer, and memory does not grow."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from service.labelling.samples.sample import sample_id
from tests.faults.chaos import Chaos, Image

REQUESTS = 10_000
CONNECTIONS = 48
MIB = 2**20


def image_of(brightness: int, side: int) -> Image:
    """A flat grey image in a file of 10 kB. The tiny model predicts the loss exp(brightness) for it."""
    file, info = io.BytesIO(), PngInfo()
    info.add_text("padding", f"{brightness} {side}".ljust(10_000))
    Pillow.fromarray(np.full((side, side), brightness, np.uint8)).save(file, "PNG", pnginfo=info)
    return Image(file.getvalue(), float(np.exp(brightness / 255)))


def is_own(image: Image, answer: dict[str, Any]) -> bool:
    near = bool(abs(answer["predicted_loss"] - image.predicted_loss) < 1e-4)  # neighbours are 4e-3 apart
    return near and answer["sample_id"] == sample_id("tiny", image.body)


def resident_bytes(service: Any) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.slow
def test_every_good_request_among_ten_thousand_of_every_kind_gets_its_own_answer(
    start_service: Callable[..., Any],
) -> None:
    service = start_service(LOSSCAST_UPLOAD_TIMEOUT_S="30")
    images = [image_of(brightness, side) for brightness in range(26, 127) for side in (8, 64, 300)]
    png = images[0].body
    garbage = [b"", b"no image", png[:30], b"\xff\xd8\xff" + bytes(500), bytes(5000)]
    url = service.http.base_url

    def chaos(requests: int, seed: int) -> Chaos:
        client = Chaos(url.host, url.port, images, garbage, is_own)
        asyncio.run(client.run(requests, CONNECTIONS, seed))
        return client

    chaos(REQUESTS // 10, seed=1)  # buffers, pools and caches grow to their size
    before = resident_bytes(service)
    client = chaos(REQUESTS, seed=1000)
    assert client.wrong == []
    by_kind = {kind: {status for of, status in client.answers if of == kind} for kind, _ in client.answers}
    assert by_kind["good"] == by_kind["dawdle"] == {200}, client.answers
    assert by_kind["garbage"] <= {400, 415, 422}, client.answers
    assert by_kind["hurry"] <= {200, 504}, client.answers
    lines = idle(service)
    assert "losscast_in_flight_bytes 0.0" in lines
    assert any(line.startswith("losscast_requests_total") and 'code="499"' in line for line in lines)
    assert not [line for line in lines if line.startswith("losscast_requests_total") and 'code="500"' in line]
    # A body kept of each request would be 100 MB, a task or a future 20 MB and more.
    assert resident_bytes(service) - before < 16 * MIB
    assert service.http.get("/v2/health/ready").status_code == 200


def idle(service: Any) -> list[str]:
    """The metrics, once nothing is admitted any more."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            lines: list[str] = service.http.get("/metrics").text.splitlines()
            assert "losscast_in_flight 0.0" in lines
    return lines
