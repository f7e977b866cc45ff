"""Drift monitoring as a whole, with real services: clean images, then blurred ones, over one replica and over two."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from service.client import LosscastClient
from service.schemas.drift import DriftReport
from tests import command_line
from tests.running import Redis, Service
from tests.service.drift import digits_traffic

pytestmark = pytest.mark.slow

CLEAN_VIEWS, BLURRED_VIEWS = 5, 1  # of each of the 297 test digits
OF_CONTENT = ("score", "ood_score", "luminance", "contrast", "sharpness")  # the others are alike on all canvases
CLEARLY_MOVED, CLEARLY_NOT = {"ood_score", "contrast", "sharpness"}, {"luminance", "aspect", "size"}  # score: barely
AT_AN_EDGE = 5 / 2500  # of the images: jitter, which differs, may put so many into the next bin
INDEPENDENT = 6.0  # bounds the design effect of the clean images, of which few blocks tell little more


@dataclass(frozen=True)
class Shown:
    """The reports at the end of a show."""

    urls: list[str]
    clean: DriftReport  # of the first replica, before the blurred images
    reports: list[DriftReport]  # one per replica
    blurred_s: float  # unix seconds at which the first blurred image was sent


@pytest.fixture(scope="module")
def over_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with showing(1, tmp_path_factory.mktemp("one")) as shown:
        yield shown


@pytest.fixture(scope="module")
def over_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with showing(2, tmp_path_factory.mktemp("two")) as shown:
        yield shown


@contextmanager
def showing(replicas: int, folder: Path) -> Iterator[Shown]:
    """Posts all traffic, in turn, to so many replicas, which share a Redis server. They run until the block ends."""
    redis = Redis(folder)
    redis.start()
    with ExitStack() as stack:
        stack.callback(redis.send, signal.SIGKILL)
        clients = [_start(stack, folder / f"replica {n}", redis) for n in range(replicas)]
        clean, blurred = digits_traffic.clean(CLEAN_VIEWS), digits_traffic.blurred(BLURRED_VIEWS)
        digits_traffic.post(clients, clean)
        before = digits_traffic.report_of(clients[0], len(clean))
        blurred_s = time.time()
        digits_traffic.post(clients, blurred)
        reports = [digits_traffic.report_of(client, len(clean) + len(blurred)) for client in clients]
        yield Shown([str(client._http.base_url) for client in clients], before, reports, blurred_s)


def _start(stack: ExitStack, folder: Path, redis: Redis) -> LosscastClient:
    folder.mkdir()
    address = {"LOSSCAST_REDIS_URL": f"unix://{redis.socket}"}
    service = Service(digits_traffic.BUNDLES, folder, **digits_traffic.SETTINGS, **address)
    service.start()
    stack.callback(service.stop)
    return stack.enter_context(LosscastClient(str(service.http.base_url)))


def test_a_report_on_blurred_images_says_what_moved_since_when_and_what_to_do(over_one: Shown, tmp_path: Path) -> None:
    (report,), (url,) = over_one.reports, over_one.urls
    assert (over_one.clean.state, over_one.clean.moved) == ("stable", [])
    assert report.state == "drift", report.summary
    assert {"sharpness", "ood_score"} <= set(report.moved)
    assert report.since == pytest.approx(over_one.blurred_s, abs=5.0)
    said = losscast("drift", "--plot", tmp_path / "drift.png", url=url).lower()
    for words in ("digits 1: drift", "images are blurred (sharpness:", "since about ", "check focus", "ood_score"):
        assert words in said
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(losscast("drift", "--json", url=url))["state"] == "drift"


def test_two_replicas_report_the_same_figures_as_one(over_one: Shown, over_two: Shown) -> None:
    assert (over_two.clean.state, over_two.clean.moved) == ("stable", [])
    (alone,) = over_one.reports
    apart, together = (
        np.median([signal.design_effect for signal in shown.clean.signals if signal.name in OF_CONTENT])
        for shown in (over_two, over_one)
    )
    assert max(apart, together) < INDEPENDENT
    for report in over_two.reports:
        assert report.state == alone.state == "drift", report.summary
        assert report.since == pytest.approx(over_two.blurred_s, abs=5.0)
        for moved in (set(report.moved), set(alone.moved)):
            assert moved >= CLEARLY_MOVED
            assert not moved & CLEARLY_NOT
        assert report.embedding_shift == pytest.approx(alone.embedding_shift, rel=0.15)
        for name in OF_CONTENT:
            mine, theirs = (next(signal for signal in one.signals if signal.name == name) for one in (report, alone))
            assert mine.window == pytest.approx(theirs.window, abs=AT_AN_EDGE)
            if name in CLEARLY_MOVED:  # the shift of others is of the window, or of the time since the change
                assert mine.shift == pytest.approx(theirs.shift, abs=0.02)


def losscast(*arguments: object, url: str) -> str:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "LOSSCAST_URL": url}
    result = command_line.run(*arguments, environment=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout
