"""One visit to one server: starts it, loads it in every way, records what it used, and ends it."""

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.serving.contestants import FLOOR_BATCHES, Contestant, Settings, environment
from benchmarks.serving.environments import ROOT
from benchmarks.serving.load import read_images, requests
from benchmarks.serving.material import Material
from benchmarks.serving.processes import NotServing, Server, free_port, serving
from service.settings import available_cpus

HEADLINE = 32  # clients, of the figures that stand for all
SHARE = 0.7  # of the capacity, under Poisson arrivals
DRAIN_S, POLL_S = 15.0, 0.5  # each poll costs the service a few milliseconds of the time that is measured
ROWS = re.compile(r"^losscast_journal_rows (\S+)$", re.MULTILINE)
Cell = dict[str, float]


class LoadFailed(RuntimeError):  # noqa: N818 - it says what happened
    """A program of this benchmark ended in an error. Mostly the server answered with another status than 200."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The loads: `seconds` of each, and `clients` of the closed loops."""

    folder: Path
    seconds: float
    clients: Sequence[int] = (1, 8, 32, 64)

    @property
    def warm_up_s(self) -> float:
        return self.seconds / 2


def visit(contestant: Contestant, settings: Settings, material: Material, plan: Plan) -> dict[str, Cell]:
    """Every closed loop, then Poisson arrivals at `SHARE` of the best throughput among them."""
    with started(contestant, settings, material, plan) as (server, path):
        load(server, path, material, f"clients={HEADLINE}", plan.warm_up_s)
        cells = {f"clients={n}": load(server, path, material, f"clients={n}", plan.seconds) for n in plan.clients}
        rate = SHARE * max(cell["per_s"] for cell in cells.values())
        cells["poisson"] = load(server, path, material, f"rate={rate:.3f}", 2 * plan.seconds)
        cells["memory"] = {"mb": server.memory_mb()}
    return cells


def headline(
    contestant: Contestant, settings: Settings, material: Material, plan: Plan, clients: int = HEADLINE
) -> Cell:
    """The closed loop that chooses the settings and shows the cost of detection."""
    with started(contestant, settings, material, plan) as (server, path):
        load(server, path, material, f"clients={clients}", plan.warm_up_s)
        return load(server, path, material, f"clients={clients}", plan.seconds)


def load(server: Server, path: str, material: Material, kind: str, seconds: float) -> Cell:
    """One run of the load generator, with the server's processor time until all accepted work is done."""
    before = server.cpu_s()
    found: Cell = _program("load", server.port, path, _media_type(material), material.images, seconds, kind)
    if path.startswith("/v1"):
        _drained(server.port)
    return found | {"cpu_ms": (server.cpu_s() - before) / found["requests"] * 1e3}


def floor(batch: int, material: Material, plan: Plan) -> Cell:
    """The pipeline without a server, on as many threads as there are processors."""
    found: Cell = _program("floor", material.bundle, material.images, available_cpus(), batch, plan.seconds)
    return found


def best_floor(material: Material, plan: Plan) -> tuple[Settings, list[dict[str, Any]]]:
    """The batch size with the lowest cost, and the cost of each."""
    tried: list[dict[str, Any]] = [
        {"settings": {"batch": batch}, **floor(batch, material, plan)} for batch in FLOOR_BATCHES
    ]
    return min(tried, key=lambda one: one["cpu_ms"])["settings"], tried


def best_settings(contestant: Contestant, material: Material, plan: Plan) -> tuple[Settings, list[dict[str, Any]]]:
    """The settings with the highest throughput, and the throughput of each."""
    if len(contestant.settings) == 1:
        return contestant.settings[0], []
    tried: list[dict[str, Any]] = [
        {"settings": one, **_tried(contestant, one, material, plan)} for one in contestant.settings
    ]
    return max(tried, key=lambda one: one["per_s"])["settings"], tried


def _tried(contestant: Contestant, settings: Settings, material: Material, plan: Plan) -> dict[str, Any]:
    try:
        return dict(headline(contestant, settings, material, plan))
    except (NotServing, LoadFailed) as error:
        return {"per_s": 0.0, "failed": str(error)}


@contextmanager
def started(contestant: Contestant, settings: Settings, material: Material, plan: Plan) -> Iterator[tuple[Server, str]]:
    port, images = free_port(), read_images(material.images)[:1]
    probe = next(requests(images, contestant.path, _media_type(material), 0))
    log = plan.folder / f"{contestant.name}.log"
    with tempfile.TemporaryDirectory(prefix="state-", dir=plan.folder) as state:
        command = contestant.command(plan.folder / "environments", port)
        with serving(command, environment(material, settings, port, Path(state)), log, port, probe) as server:
            yield server, contestant.path


def _media_type(material: Material) -> str:
    return "image/png" if material.model == "digits" else "image/jpeg"


def _program(name: str, *arguments: object) -> Any:
    """Runs a program of this benchmark in a process of its own. Returns its output."""
    command = [sys.executable, "-m", f"benchmarks.serving.{name}", *map(str, arguments)]
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=paths, capture_output=True, check=False)  # noqa: S603 - our own program
    if done.returncode:
        raise LoadFailed(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return orjson.loads(done.stdout)


def _drained(port: int) -> None:
    """Waits until the service's journal is empty: its work is part of the cost of the requests that caused it."""
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DRAIN_S)
        connection.request("GET", "/metrics")
        rows = ROWS.search(connection.getresponse().read().decode())
        connection.close()
        if rows and float(rows.group(1)) == 0:
            return
        time.sleep(POLL_S)
    raise RuntimeError(f"the journal was not empty {DRAIN_S:g} s after the load")
