"""Runs Prometheus and Alertmanager on free ports, with the shipped configuration but other addresses and intervals.

`python -m benchmarks.monitoring`, which draws the dashboards, and the tests of dashboards and alerts use it.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from ruamel.yaml import YAML

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
START_LIMIT_S, STOP_LIMIT_S, POLL_S = 60.0, 20.0, 0.05
LOG_LINES = 15
SCRAPE_S = 1


class NotStarted(RuntimeError):  # noqa: N818 - the name says what happened
    """A server did not start; the message has the end of its log."""


class Prometheus:
    """The HTTP API of a running Prometheus. Raises httpx.HTTPStatusError with its answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, path: str, **parameters: Any) -> Any:
        """The `data` of an answer."""
        answer = self._http.post(path, data=parameters) if "query" in parameters else self._http.get(path)
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        return answer.json()["data"]

    def now(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, each with `metric` and `value`."""
        found: list[dict[str, Any]] = self.ask("/query", query=expression)["result"]
        return found

    def over(self, expression: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """The series of a range query, each with `metric` and `values`. start, end: unix seconds."""
        found: list[dict[str, Any]] = self.ask("/query_range", query=expression, start=start, end=end, step=step_s)[
            "result"
        ]
        return found


@contextmanager
def running_prometheus(
    folder: Path,
    targets: Sequence[str],
    rules: Path = DEPLOY / "prometheus/rules",
    alertmanager: str | None = None,
    refiners: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `targets` (host:port) every SCRAPE_S and evaluates the rules. Its data are in `folder`.

    alertmanager: host:port to send alerts to. refiners: host:port of each, scraped as well. Raises NotStarted, also if
    it is not installed.
    """
    port = free_port()
    configuration = _shipped("prometheus/prometheus.yml")
    configuration["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    configuration["rule_files"] = [str(rules / "*.yml")]
    (job,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "losscast")
    refiner = {"job_name": "refiner", "static_configs": [{"targets": list(refiners)}]}
    configuration["scrape_configs"] = [{**job, "static_configs": [{"targets": list(targets)}]}, refiner]
    if alertmanager is None:
        del configuration["alerting"]
    else:
        configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    command = [
        _program("prometheus"),
        f"--config.file={_written(folder / 'prometheus.yml', configuration)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder / "prometheus.log", f"{url}/-/ready"), Prometheus(url) as prometheus:
        yield prometheus


@contextmanager
def running_alertmanager(folder: Path, receiver_url: str) -> Iterator[str]:
    """host:port of an Alertmanager that sends to this webhook without delay. Raises NotStarted."""
    port = free_port()
    configuration = _shipped("alertmanager/alertmanager.yml")
    configuration["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in configuration["receivers"]:
        receiver["webhook_configs"] = [{"url": receiver_url}]
    command = [
        _program("prometheus-alertmanager", "alertmanager"),
        f"--config.file={_written(folder / 'alertmanager.yml', configuration)}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, folder / "alertmanager.log", f"http://127.0.0.1:{port}/-/ready"):
        yield f"127.0.0.1:{port}"


@contextmanager
def running(command: Sequence[str], log: Path, ready_url: str) -> Iterator[None]:
    """Runs a program until the block ends. Raises NotStarted unless it is ready within START_LIMIT_S."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - our own commands
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not _answers(ready_url):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
                raise NotStarted(f"{Path(command[0]).name} did not start; the end of its log:\n{tail}")
            time.sleep(POLL_S)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).is_success
    except httpx.TransportError:
        return False


def _program(*names: str) -> str:
    """The first of these names that is on PATH: Debian uses another name than the project."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NotStarted(f"{names[0]} is not on PATH: install the Debian package {names[0]}")
    return os.fspath(found)


def _shipped(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(DEPLOY / name)
    return content


def _written(path: Path, content: Mapping[str, Any]) -> Path:
    with path.open("w") as file:
        YAML().dump(content, file)
    return path
