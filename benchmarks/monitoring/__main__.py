"""Draws the dashboards of a service under traffic: `python -m benchmarks.monitoring`; it takes about three minutes.

A service with the shipped digits model gets clean canvases, then blurred ones. Meanwhile an annotator labels, and some
callers send bodies that are no images. A refiner waits for more labels than it gets. A real Prometheus scrapes both.
Its answers to the queries of the dashboards are drawn into docs/dashboards*.png.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.monitoring import traffic
from benchmarks.monitoring.picture import Span, draw
from benchmarks.monitoring.servers import SCRAPE_S, free_port, running, running_prometheus
from demo.running import running_service
from deploy.grafana.build import boards
from service.client import LosscastClient

ROOT = Path(__file__).resolve().parents[2]
CLEAN, BLURRED = 2000, 500
PER_S = 20
LEAD_S = 5  # pause before the first image and after the last
LABEL_EVERY, LABELS = 60, 3  # images, samples
REFUSED_EVERY = 150
WANTED = 200  # labels: more than come
FILES = {"detection.json": "dashboards", "service.json": "dashboards-service", "labelling.json": "dashboards-labelling"}
SETTINGS = {
    "LOSSCAST_MODELS": traffic.MODEL,
    "LOSSCAST_AUDIT_RATE": "0.05",
    "LOSSCAST_LABELS_PER_HOUR": "500",
    "LOSSCAST_DRIFT_FLUSH_S": "1",
}


@contextmanager
def running_refiner(url: str, folder: Path) -> Iterator[str]:
    """host:port of the metrics of a refiner that has fewer labels than it wants."""
    port, store = free_port(), folder / "bundles"
    shutil.copytree(ROOT / "bundles" / traffic.MODEL, store / traffic.MODEL)
    options = ["--url", url, "--store", str(store), "--labels", str(WANTED), "--fewest", str(WANTED), "--poll-s", "1"]
    command = [sys.executable, "-m", "losscast", "refine", traffic.MODEL, "--watch", *options]
    place = f"127.0.0.1:{port}"
    with running([*command, "--metrics-port", str(port)], folder / "refiner.log", f"http://{place}/metrics"):
        yield place


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="losscast-monitoring-") as folder:
        state, data = Path(folder, "state"), Path(folder, "prometheus")
        state.mkdir()
        data.mkdir()
        with (
            running_service(ROOT / "bundles", traffic.MODEL, state, **SETTINGS) as url,
            running_refiner(url, Path(folder)) as refiner,
            running_prometheus(data, [urlsplit(url).netloc], refiners=[refiner]) as prometheus,
        ):
            start = time.time()
            time.sleep(LEAD_S)
            _send(url)
            time.sleep(LEAD_S)
            choices = {"instance": ".*", "model": traffic.MODEL, "__rate_interval": "15s"}
            span = Span(start + LEAD_S, time.time(), SCRAPE_S, choices)
            for name, board in boards().items():
                picture = ROOT / "docs" / f"{FILES[name]}.png"
                draw(board, prometheus, span, picture)
                print(picture.relative_to(ROOT))
            print(httpx.get(f"{url}/v1/drift").text)


def _send(url: str) -> None:
    images: Iterator[bytes] = iter([*islice(traffic.clean(), CLEAN), *islice(traffic.blurred(), BLURRED)])
    with LosscastClient(url) as client, httpx.Client(base_url=url) as http:
        begun = time.monotonic()
        for number, image in enumerate(images, start=1):
            traffic.post(http, image)
            if number % LABEL_EVERY == 0:
                traffic.label(client, LABELS)
            if number % REFUSED_EVERY == 0:
                traffic.post_what_is_refused(http)
            time.sleep(max(begun + number / PER_S - time.monotonic(), 0))


if __name__ == "__main__":
    main()
