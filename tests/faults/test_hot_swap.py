"""Versions change under full traffic, in a real process: no request is refused, and memory is freed."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest
import stamina

from models.contract.index import ModelIndex, write_index

CLIENTS = 4
SWAPS = 20
BALLAST = 10 * 2**20  # numbers: from 32 MiB on, malloc returns freed memory to the system at once
PNG = {"content-type": "image/png"}


@pytest.fixture
def heavy_store(tmp_path: Path, publish_version: Callable[..., None], brightness_text: str) -> Path:
    """`tiny` with the versions 1 to 4, each with 40 MiB of weights; 1 is live."""
    store = tmp_path / "bundles"
    for version in range(1, 5):
        publish_version(store, version, text=_heavy(brightness_text))
    write_index(store / "tiny", ModelIndex(live=1))
    return store


def _started(start_service: Callable[..., Any], store: Path) -> Any:
    return start_service(
        LOSSCAST_BUNDLES=str(store), LOSSCAST_POLL_S="0.05", LOSSCAST_MAX_BATCH="4", LOSSCAST_WORKERS="1"
    )


@pytest.mark.slow
def test_many_swaps_a_damaged_version_and_the_way_back_fail_no_request_and_leave_no_memory(
    start_service: Callable[..., Any], heavy_store: Path, grey: Callable[..., bytes]
) -> None:
    service = _started(start_service, heavy_store)
    live, resident = 1, []
    with _traffic(service, grey(0.2)) as replies:
        for turn in range(SWAPS):
            before, live = live, turn % 3 + 2
            write_index(heavy_store / "tiny", ModelIndex(live=live, previous=before))
            _served(service, live)
            resident.append(_resident_bytes(service))
        shutil.rmtree(heavy_store / "tiny/1")
        shutil.copytree(heavy_store / "tiny/2", heavy_store / "tiny/1")  # its manifest is for another version
        (heavy_store / "index").write_text(f'{{"live": 1, "previous": {live}}}')
        (heavy_store / "index").replace(heavy_store / "tiny/model.json")  # half a file would be another failure
        _failed_once(service)
        _served(service, live)
        write_index(heavy_store / "tiny", ModelIndex(live=before, previous=live))
        _served(service, before)
    assert all(status == 200 for client in replies for status, _ in client)
    assert len({version for client in replies for _, version in client}) == 4
    for client in replies:
        changes = sum(one != other for (_, one), (_, other) in pairwise(client))
        assert changes <= SWAPS + 1  # no client saw an old version again
    weights = BALLAST * 4
    assert max(resident[-5:]) - max(resident[:5]) < 3 * weights  # of twelve versions that were opened and closed
    assert 'losscast_model_load_failures_total{model="tiny"} 1.0' in service.http.get("/metrics").text


@pytest.mark.slow
def test_a_store_that_hangs_is_reported_and_blocks_neither_requests_nor_the_end(
    start_service: Callable[..., Any], make_store: Callable[..., Path], grey: Callable[..., bytes]
) -> None:
    store = make_store()
    service = _started(start_service, store)
    index = store / "tiny/model.json"
    index.unlink()
    os.mkfifo(index)  # a reader waits for a writer
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            line = next(one for one in _metrics(service) if one.startswith("losscast_bundle_store_silent_seconds"))
            assert float(line.split()[1]) > 0.2
    assert service.http.post("/v1/predict", content=grey(0.2), headers=PNG).json()["version"] == "1"
    assert service.http.get("/v2/health/ready").status_code == 200
    assert service.stop() == 0


@contextmanager
def _traffic(service: Any, image: bytes) -> Iterator[list[list[tuple[int, str]]]]:
    """Clients that post without a pause; status and version of every reply, by client."""
    over = threading.Event()
    replies: list[list[tuple[int, str]]] = [[] for _ in range(CLIENTS)]

    def post(mine: list[tuple[int, str]]) -> None:
        with httpx.Client(base_url=service.http.base_url, timeout=30) as http:
            while not over.is_set():
                try:
                    reply = http.post("/v1/predict", content=image, headers=PNG)
                    mine.append((reply.status_code, reply.json().get("version", "")))
                except httpx.HTTPError as error:
                    mine.append((0, repr(error)))

    threads = [threading.Thread(target=post, args=(mine,)) for mine in replies]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _served(service: Any, live: int) -> None:
    """Returns once that version is live, and versions that are no longer named are closed."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.05):
        with attempt:
            (tiny,) = service.http.get("/v1/models").json()["models"]
            assert tiny["live"] == str(live), service.log
            assert sum(one["state"] != "UNAVAILABLE" for one in tiny["versions"]) <= 2


def _failed_once(service: Any) -> None:
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=60, wait_max=0.05):
        with attempt:
            (tiny,) = service.http.get("/v1/models").json()["models"]
            reasons = "".join(one["reason"] for one in tiny["versions"] if one["state"] == "UNAVAILABLE")
            assert "its manifest is for tiny 2" in reasons


def _metrics(service: Any) -> list[str]:
    lines: list[str] = service.http.get("/metrics").text.splitlines()
    return lines


def _resident_bytes(service: Any) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def _heavy(text: str) -> bytes:
    """The model of the text, with weights of which its predicted loss adds one, a zero."""
    light = text.replace("float full", "float[1] ballast = {0.0}, float full").replace(
        "predicted_loss = Exp (score)",
        "place = Cast <to = 7> (score)\n    nil = Gather (ballast, place)\n    sure = Exp (score)\n"
        "    predicted_loss = Add (sure, nil)",
    )
    model = onnx.parser.parse_model(light)
    (ballast,) = (one for one in model.graph.initializer if one.name == "ballast")
    ballast.CopyFrom(onnx.numpy_helper.from_array(np.zeros(BALLAST, np.float32), "ballast"))
    return bytes(model.SerializeToString())
