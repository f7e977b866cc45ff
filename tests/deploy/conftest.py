"""The files around the code, read once, and a monitored service: real programs, which CI must have."""

import http.server
import json
import os
import queue
import re
import shutil
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
import stamina
from ruamel.yaml import YAML

from benchmarks.monitoring import traffic
from benchmarks.monitoring.servers import Prometheus, running_alertmanager, running_prometheus
from demo.running import running_service
from models.refinement.by_itself.metrics import RefinerMetrics
from service.client import LosscastClient
from service.schemas.drift import DriftReport

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
CLEAN, BLURRED = 5 * 297, 3 * 297  # images: so many views of each of the 297 test digits
FORM = 27  # images in one request


class Instruction(NamedTuple):
    keyword: str
    text: str

    @property
    def command(self) -> list[str]:
        """The exec form of CMD and of HEALTHCHECK ... CMD."""
        arguments: list[str] = json.loads(self.text[self.text.index("[") :])
        return arguments


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def dockerfile() -> list[Instruction]:
    """The instructions of the Dockerfile in order, comments left out and continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


@pytest.fixture(scope="session")
def image_environment(dockerfile: list[Instruction]) -> dict[str, str]:
    """ENV of the final stage, with the build argument RUNTIME left as it is written."""
    text = " ".join(i.text for i in dockerfile if i.keyword == "ENV")
    return dict(re.findall(r"(\w+)=(\S+)", text))


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return read_yaml("docker-compose.yml")


@pytest.fixture(scope="session")
def gpu_override() -> dict[str, Any]:
    return read_yaml("docker-compose.gpu.yml")


@pytest.fixture(scope="session")
def scripts() -> Path:
    """The folder with the programs of the test requirements."""
    return Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="session")
def promtool() -> str:
    return _program("promtool", "prometheus")


@pytest.fixture(scope="session")
def amtool() -> str:
    return _program("amtool", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def servers() -> tuple[str, str]:
    """Prometheus and Alertmanager, which `benchmarks.monitoring.servers` starts."""
    return _program("prometheus", "prometheus"), _program("prometheus-alertmanager", "prometheus-alertmanager")


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing: CI installs the Debian package {package}")
    if found is None:
        pytest.skip(f"{name} is not on PATH: install the Debian package {package}")
    return found


@pytest.fixture(scope="session")
def configuration() -> dict[str, Any]:
    return read_yaml("deploy/prometheus/prometheus.yml")


@pytest.fixture(scope="session")
def alerts() -> list[dict[str, Any]]:
    groups = read_yaml("deploy/prometheus/rules/losscast.yml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def cases() -> list[dict[str, Any]]:
    """The alerts that promtool is to expect, at each moment of each case."""
    files = (REPOSITORY / "deploy/prometheus/tests").glob("*.yml")
    tests = [test for file in files for test in read_yaml(str(file.relative_to(REPOSITORY)))["tests"]]
    return [case for test in tests for case in test["alert_rule_test"]]


@pytest.fixture(scope="session")
def routing() -> dict[str, Any]:
    return read_yaml("deploy/alertmanager/alertmanager.yml")


@pytest.fixture(scope="session")
def impatient_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped rules, except that an alert fires after a second."""
    folder = tmp_path_factory.mktemp("rules")
    shipped = (REPOSITORY / "deploy/prometheus/rules/losscast.yml").read_text()
    (folder / "losscast.yml").write_text(re.sub(r"^( +for:) \w+$", r"\1 1s", shipped, flags=re.MULTILINE))
    return folder


class Receiver:
    """A webhook on loopback, to which Alertmanager sends."""

    def __init__(self, url: str, notes: "queue.Queue[dict[str, Any]]") -> None:
        self.url = url
        self._notes = notes

    def wait_for(self, alertname: str) -> dict[str, Any]:
        """The first alert of that name to arrive. Raises queue.Empty if nothing arrives for PATIENCE_S."""
        while True:
            for alert in self._notes.get(timeout=PATIENCE_S)["alerts"]:
                if alert["labels"]["alertname"] == alertname:
                    found: dict[str, Any] = alert
                    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    notes: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notes.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keeps the test's output quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Receiver(f"http://127.0.0.1:{server.server_port}/", notes)
        finally:
            server.shutdown()
            thread.join()


class Monitored(NamedTuple):
    """A service that answered clean images and then blurred ones, and the programs that watched it."""

    url: str  # of the service
    refiner_url: str  # of the metrics of a refiner
    prometheus: Prometheus
    clean: DriftReport  # after the clean images
    early_alerts: list[dict[str, Any]]  # on drift, after the clean images
    blurred: DriftReport  # after the blurred images
    alert: dict[str, Any]  # on drift, as Alertmanager sent it


@pytest.fixture(scope="session")
def monitored(
    servers: tuple[str, str], impatient_rules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitored]:
    """A service with the shipped digits model, after traffic of every kind. Its users are in one file."""
    assert all(servers)
    state, data, sent = (tmp_path_factory.mktemp(name) for name in ("service", "prometheus", "alertmanager"))
    settings = {"LOSSCAST_MODELS": traffic.MODEL, "LOSSCAST_AUDIT_RATE": "0.1", "LOSSCAST_DRIFT_FLUSH_S": "0.5"}
    refiner = RefinerMetrics(traffic.MODEL, wanted_labels=200)
    refiner.waiting_since.set(time.time() - 60)
    refiner_place = f"127.0.0.1:{refiner.serve('127.0.0.1', 0)}"
    with (
        running_service(REPOSITORY / "bundles", traffic.MODEL, state, **settings) as url,
        running_receiver() as receiver,
        running_alertmanager(sent, receiver.url) as alertmanager,
        running_prometheus(data, [urlsplit(url).netloc], impatient_rules, alertmanager, [refiner_place]) as prometheus,
        LosscastClient(url) as client,
        httpx.Client(base_url=url) as http,
    ):
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.2):
            with attempt:  # events before the first scrape are no increase
                assert prometheus.now('count_over_time(up{job="losscast"}[1m]) > 1')
        clean = _answered(client, traffic.clean(), CLEAN, CLEAN)
        early = prometheus.now('ALERTS{alertname=~"LosscastDrift.*"}')
        blurred = _answered(client, traffic.blurred(), BLURRED, CLEAN + BLURRED)
        traffic.post_what_is_refused(http)
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.2):
            with attempt:
                assert traffic.label(client, 10) > 0
        yield Monitored(
            url, f"http://{refiner_place}", prometheus, clean, early, blurred, receiver.wait_for("LosscastDrift")
        )


def _answered(client: LosscastClient, images: Iterator[bytes], n: int, observations: int) -> DriftReport:
    """Posts n images. The drift report, once it has that many observations."""
    for _ in range(0, n, FORM):
        client.predict_many(list(islice(images, FORM)), model=traffic.MODEL)
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=PATIENCE_S, wait_max=0.2):
        with attempt:
            report = client.drift(model=traffic.MODEL)
            assert report.observations == observations
    return report


@pytest.fixture(scope="session")
def provisioning() -> dict[str, dict[str, Any]]:
    """The provisioning of Grafana, by path below deploy/grafana/provisioning."""
    root = "deploy/grafana/provisioning"
    return {name: read_yaml(f"{root}/{name}") for name in ("datasources/prometheus.yml", "dashboards/losscast.yml")}


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / name)
    return content
