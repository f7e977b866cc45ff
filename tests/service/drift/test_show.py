"""The whole of it, with services of their own: 2,000 clean images, then 500 blurred ones."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from service.client import LosscastClient
from service.schemas.drift import DriftReport
from tests import drift_show
from tests.running import Service
from tests.service.labelling.queue.forgetful import ForgetfulServer

pytestmark = pytest.mark.slow

CLEAN, BLURRED = 2000, 500
OF_CONTENT = ("score", "ood_score", "luminance", "contrast", "sharpness")  # the others are alike on all canvases
CLEARLY_MOVED, CLEARLY_NOT = {"ood_score", "contrast", "sharpness"}, {"luminance", "aspect", "size"}  # score: barely
AT_AN_EDGE = 5 / 2500  # of the images: jitter, which differs, may put so many into the next bin
INDEPENDENT = 6.0  # bounds the design effect of the clean images: some four blocks tell little more of it


@dataclass(frozen=True)
class Shown:
    """What replicas say at the end."""

    urls: list[str]
    clean: DriftReport  # of the first, before the blurred ones
    reports: list[DriftReport]  # by replica
    blurred_s: float  # unix seconds at which the first blurred image was sent


Show = Callable[[int], Shown]


@pytest.fixture
def show(tmp_path: Path, forgetful_server: ForgetfulServer) -> Iterator[Show]:
    """Shows everything to so many replicas on one Redis server, which is empty before and after."""
    with ExitStack() as stack:

        def on(replicas: int) -> Shown:
            clients = [_start(stack, tmp_path / f"{n} of {replicas}", forgetful_server) for n in range(replicas)]
            drift_show.post(clients, drift_show.clean(CLEAN))
            before = drift_show.seen(clients[0], CLEAN)
            assert (before.state, before.moved) == ("stable", [])
            blurred = drift_show.blurred(BLURRED)
            blurred_s = time.time()
            drift_show.post(clients, blurred)
            reports = [drift_show.seen(client, CLEAN + BLURRED) for client in clients]
            return Shown([str(client._http.base_url) for client in clients], before, reports, blurred_s)

        yield on


def _start(stack: ExitStack, folder: Path, server: ForgetfulServer) -> LosscastClient:
    folder.mkdir()
    service = Service(drift_show.BUNDLES, folder, **drift_show.SETTINGS, LOSSCAST_REDIS_URL=f"unix://{server.socket}")
    service.start()
    stack.callback(service.stop)
    return stack.enter_context(LosscastClient(str(service.http.base_url)))


def test_blurred_images_are_told_of_with_what_moved_since_when_and_what_to_do(show: Show, tmp_path: Path) -> None:
    shown = show(1)
    (report,), (url,) = shown.reports, shown.urls
    assert report.state == "drift", report.summary
    assert {"sharpness", "ood_score"} <= set(report.moved)
    assert report.since == pytest.approx(shown.blurred_s, abs=5.0)
    said = losscast("drift", "--plot", tmp_path / "drift.png", url=url).lower()
    for words in ("digits 1: drift", "images are blurred (sharpness:", "since about ", "check focus", "ood_score"):
        assert words in said
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(losscast("drift", "--json", url=url))["state"] == "drift"


async def test_the_same_traffic_over_two_replicas_gives_the_same_figures_as_over_one(
    show: Show, forgetful_server: ForgetfulServer
) -> None:
    two = await asyncio.to_thread(show, 2)
    await forgetful_server.client.flushall()
    one = await asyncio.to_thread(show, 1)
    (alone,) = one.reports
    apart, together = (
        np.median([signal.design_effect for signal in shown.clean.signals if signal.name in OF_CONTENT])
        for shown in (two, one)
    )
    assert max(apart, together) < INDEPENDENT
    for report in two.reports:
        assert report.state == alone.state == "drift", report.summary
        assert report.since == pytest.approx(two.blurred_s, abs=5.0)
        for moved in (set(report.moved), set(alone.moved)):
            assert moved >= CLEARLY_MOVED
            assert not moved & CLEARLY_NOT
        assert report.embedding_shift == pytest.approx(alone.embedding_shift, rel=0.15)
        for name in OF_CONTENT:
            mine, theirs = (next(signal for signal in one.signals if signal.name == name) for one in (report, alone))
            assert mine.window == pytest.approx(theirs.window, abs=AT_AN_EDGE)
            if name in CLEARLY_MOVED:  # that of others is of the window or of the time since the change
                assert mine.shift == pytest.approx(theirs.shift, abs=0.02)


def losscast(*arguments: object, url: str) -> str:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "LOSSCAST_URL": url}
    command = [sys.executable, "-m", "losscast", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
