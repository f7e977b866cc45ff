"""Models that raise, give NaN or hang at an image, in a service that goes on with all others."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.contract.index import ModelIndex, write_index
from service.inference.batcher import EXIT_HUNG

PNG = {"content-type": "image/png"}
RAISES, NAN, HANGS, LOSSY, FINE = 0.8, 0.9, 1.0, 0.7, 0.3


@pytest.mark.slow
def test_an_image_that_the_model_fails_at_costs_no_other_image_its_answer(
    start_service: Callable[..., Any], faulty_store: Path, grey: Callable[..., bytes]
) -> None:
    service = start_service(LOSSCAST_BUNDLES=str(faulty_store), LOSSCAST_WORKERS="1", LOSSCAST_MAX_BATCH="16")
    levels = [RAISES if n % 12 == 5 else NAN if n % 12 == 9 else (n % 60) / 100 for n in range(240)]

    def ask(level: float) -> httpx.Response:
        reply: httpx.Response = service.http.post("/v1/predict", content=grey(level), headers=PNG)
        return reply

    with ThreadPoolExecutor(24) as clients:
        replies = list(clients.map(ask, levels))
    for level, reply in zip(levels, replies, strict=True):
        if level in {RAISES, NAN}:
            assert reply.status_code == 500
            assert reply.json()["error"]["code"] == "model_fault"
        else:
            assert reply.status_code == 200, reply.text
            assert reply.json()["predicted_loss"] == pytest.approx(np.exp(level), rel=0.01)
    assert service.http.get("/v2/health/ready").status_code == 200
    assert "losscast_in_flight 0.0" in service.http.get("/metrics").text
    assert Counter(reply.status_code for reply in replies) == {200: 200, 500: 40}


@pytest.mark.slow
def test_a_model_that_hangs_ends_the_process_and_the_next_one_has_every_accepted_sample(
    start_service: Callable[..., Any], faulty_store: Path, grey: Callable[..., bytes]
) -> None:
    service = start_service(LOSSCAST_BUNDLES=str(faulty_store), LOSSCAST_HANG_S="1")
    for tag in range(5):
        reply = service.http.post("/v1/predict", content=grey(LOSSY, tag=tag), headers=PNG)
        assert reply.json()["queue"] == "accepted"
    hung = service.http.post("/v1/predict", content=grey(HANGS), headers=PNG)
    assert hung.status_code == 503
    assert "hangs" in hung.json()["error"]["message"]
    assert service.process.wait(30) == EXIT_HUNG
    (line,) = [line for line in service.log.splitlines() if "CRITICAL" in line]
    assert "tiny 1 hangs: no answer in 1 s" in line
    assert "Traceback" not in service.log
    service.http.close()
    service.start()
    assert service.settled(5)["pending"] == 5
    assert service.http.post("/v1/predict", content=grey(FINE), headers=PNG).status_code == 200


@pytest.mark.slow
def test_a_model_that_hangs_does_not_keep_the_service_from_ending(
    start_service: Callable[..., Any], faulty_store: Path, grey: Callable[..., bytes]
) -> None:
    service = start_service(LOSSCAST_BUNDLES=str(faulty_store), LOSSCAST_HANG_S="3", LOSSCAST_REQUEST_TIMEOUT_S="0.5")
    reply = service.http.post("/v1/predict", content=grey(HANGS), headers=PNG)
    assert reply.status_code == 504
    assert service.stop() == EXIT_HUNG


@pytest.mark.slow
def test_a_version_that_hangs_while_it_is_loaded_is_refused_and_the_live_one_goes_on(
    start_service: Callable[..., Any],
    make_store: Callable[..., Path],
    publish_version: Callable[..., None],
    hanging_text: str,
    grey: Callable[..., bytes],
) -> None:
    store = make_store()
    service = start_service(LOSSCAST_BUNDLES=str(store), LOSSCAST_HANG_S="2")
    publish_version(store, 2, text=hanging_text)
    write_index(store / "tiny", ModelIndex(live=2, previous=1))
    reply = service.http.post("/v2/repository/models/tiny/load", json={})
    assert reply.status_code >= 400
    assert "does not finish in 2 s" in reply.text
    answer = service.http.post("/v1/predict", content=grey(FINE), headers=PNG)
    assert (answer.status_code, answer.json()["version"]) == (200, "1")
    assert service.http.get("/v2/health/ready").status_code == 200
