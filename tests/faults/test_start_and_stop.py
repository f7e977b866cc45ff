"""A signal to stop during the start, and clients that leave: nothing is left behind, and nothing is an error."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import stamina


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_leaves_no_server_behind(
    tiny_store: Path, tmp_path: Path, servers_in: Callable[[Path], list[int]], number: signal.Signals
) -> None:
    environment = {**os.environ, "LOSSCAST_STATE": str(tmp_path / "state"), "LOSSCAST_PORT": "0"}
    environment |= {"LOSSCAST_MAX_BATCH": "8", "LOSSCAST_WORKERS": "2"}  # measuring them takes a second
    command = [sys.executable, "-m", "losscast", "serve", "--model", "tiny", "--bundles", str(tiny_store)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not servers_in(tmp_path):
        assert process.poll() is None
        time.sleep(0.01)  # the start needs the processor more
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert b"Traceback" not in errors
    assert not servers_in(tmp_path)


@pytest.mark.slow
def test_clients_that_drop_their_upload_are_counted_and_cause_no_error(
    start_service: Callable[..., Any], grey: Callable[..., bytes]
) -> None:
    service = start_service()
    address = urlsplit(str(service.http.base_url))
    for _ in range(5):
        with socket.create_connection((address.hostname, address.port)) as upload:
            upload.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nab"
            )
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.1):
        with attempt:
            metrics = service.http.get("/metrics").text
            assert 'losscast_requests_total{code="499",endpoint="/v1/predict"} 5.0' in metrics
    assert "losscast_in_flight 0.0" in metrics
    assert "Traceback" not in service.log
    reply = service.http.post("/v1/predict", content=grey(0.2), headers={"content-type": "image/png"})
    assert reply.status_code == 200
