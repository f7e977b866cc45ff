"""The files around the code, read once; and the linters, which must be there in CI."""

import http.server
import json
import os
import queue
import re
import shutil
import sysconfig
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
import stamina
from ruamel.yaml import YAML

from benchmarks.monitoring import traffic
from benchmarks.monitoring.servers import Prometheus, running_prometheus
from demo.running import running_service
from service.client import LosscastClient

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


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
    """Where the programs of the test requirements were installed."""
    return Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="session")
def promtool() -> str:
    return _program("promtool", "prometheus")


@pytest.fixture(scope="session")
def amtool() -> str:
    return _program("amtool", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def servers() -> tuple[str, str]:
    """Prometheus and Alertmanager: what `benchmarks.monitoring.servers` starts."""
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
    """What promtool is told to expect of each alert, at each moment."""
    files = (REPOSITORY / "deploy/prometheus/tests").glob("*.yml")
    tests = [test for file in files for test in read_yaml(str(file.relative_to(REPOSITORY)))["tests"]]
    return [case for test in tests for case in test["alert_rule_test"]]


@pytest.fixture(scope="session")
def routing() -> dict[str, Any]:
    return read_yaml("deploy/alertmanager/alertmanager.yml")


@pytest.fixture
def impatient_rules(tmp_path: Path) -> Path:
    """A folder with the rules as they ship, but that alerts need not hold for longer than a second."""
    folder = tmp_path / "rules"
    folder.mkdir()
    shipped = (REPOSITORY / "deploy/prometheus/rules/losscast.yml").read_text()
    (folder / "losscast.yml").write_text(re.sub(r"^( +for:) \w+$", r"\1 1s", shipped, flags=re.MULTILINE))
    return folder


class Receiver:
    """A webhook on loopback that Alertmanager may send to."""

    def __init__(self, url: str, notes: "queue.Queue[dict[str, Any]]") -> None:
        self.url = url
        self._notes = notes

    def wait_for(self, alertname: str) -> dict[str, Any]:
        """The first alert of that name to arrive. Raises queue.Empty when nothing comes for PATIENCE_S."""
        while True:
            for alert in self._notes.get(timeout=PATIENCE_S)["alerts"]:
                if alert["labels"]["alertname"] == alertname:
                    found: dict[str, Any] = alert
                    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
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
    url: str  # of a service
    prometheus: Prometheus  # that scrapes it


@pytest.fixture(scope="session")
def monitored(servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """A service with the shipped digits model that has seen traffic of every kind, and the Prometheus that watched."""
    assert all(servers)
    state, data = tmp_path_factory.mktemp("service"), tmp_path_factory.mktemp("prometheus")
    settings = {"LOSSCAST_MODELS": traffic.MODEL, "LOSSCAST_AUDIT_RATE": "0.1", "LOSSCAST_DRIFT_FLUSH_S": "0.5"}
    with (
        running_service(REPOSITORY / "bundles", traffic.MODEL, state, **settings) as url,
        running_prometheus(data, [urlsplit(url).netloc]) as prometheus,
        LosscastClient(url) as client,
        httpx.Client(base_url=url) as http,
    ):
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.2):
            with attempt:  # what happens before the first scrape is no increase
                assert prometheus.now('count_over_time(up{job="losscast"}[1m]) > 1')
        for image in (*islice(traffic.clean(), 1100), *islice(traffic.blurred(), 500)):
            traffic.post(http, image)
        traffic.post_what_is_refused(http)
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.2):
            with attempt:
                assert traffic.label(client, 10) > 0
        yield Monitored(url, prometheus)


@pytest.fixture(scope="session")
def provisioning() -> dict[str, dict[str, Any]]:
    """What Grafana is provisioned with, by path below deploy/grafana/provisioning."""
    root = "deploy/grafana/provisioning"
    return {name: read_yaml(f"{root}/{name}") for name in ("datasources/prometheus.yml", "dashboards/losscast.yml")}


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / name)
    return content
