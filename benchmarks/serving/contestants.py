"""The servers that are compared: how each is started, and the settings that are tried for it."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.serving.environments import ROOT, interpreter
from benchmarks.serving.material import Material

Settings = Mapping[str, Any]
PLAIN: Sequence[Settings] = ({},)
PEERS = "benchmarks.serving.peers"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One server. `settings` are tried in turn, and the fastest one is kept."""

    name: str
    label: str
    arguments: Sequence[str]
    settings: Sequence[Settings] = PLAIN
    path: str = "/predict"

    def command(self, folder: Path, port: int) -> list[str]:
        """folder: of the environments."""
        filled = [one.format(port=port) for one in self.arguments]
        return [str(interpreter(self.name, folder)), "-m", *filled]


def environment(material: Material, settings: Settings, port: int, state: Path) -> dict[str, str]:
    """Environment variables for every server; each reads its own. state: an empty folder for the service's files."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOSSCAST_", "SERVING_"))}
    own = {
        "SERVING_BUNDLE": str(material.bundle),
        "SERVING_PORT": str(port),
        "SERVING_SETTINGS": orjson.dumps(settings).decode(),
        "LOSSCAST_BUNDLES": str(material.store),
        "LOSSCAST_MODEL": material.model,
        "LOSSCAST_PORT": str(port),
        "LOSSCAST_PROVIDER": material.provider,
        "LOSSCAST_STATE": str(state),
    }
    if material.model == "bare":
        own["LOSSCAST_AUDIT_RATE"] = "0"
    quiet = {"BENTOML_DO_NOT_TRACK": "true", "LITSERVE_DISABLE_TELEMETRY": "1"}
    return inherited | own | quiet | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


MOSEC = (
    *(
        {"decoders": 0, "num": n, "max_batch_size": b, "max_wait_time": 1}
        for n, b in itertools.product((2, 3), (1, 8, 32))
    ),
    {"decoders": 0, "num": 1, "max_batch_size": 32, "max_wait_time": 1},
    {"decoders": 0, "num": 2, "max_batch_size": 32, "max_wait_time": 5},
    {"decoders": 1, "num": 1, "max_batch_size": 16, "max_wait_time": 1},
    {"decoders": 2, "num": 2, "max_batch_size": 4, "max_wait_time": 1},
)
LITSERVE = (
    {"workers": 2, "max_batch_size": 1, "batch_timeout": 0.0, "fast_queue": False},
    {"workers": 2, "max_batch_size": 1, "batch_timeout": 0.0, "fast_queue": True},
    {"workers": 2, "max_batch_size": 8, "batch_timeout": 0.001, "fast_queue": True},
    {"workers": 1, "max_batch_size": 16, "batch_timeout": 0.001, "fast_queue": True},
    {"workers": 2, "max_batch_size": 32, "batch_timeout": 0.005, "fast_queue": True},
)
BENTOML = ({"workers": 1, "threads": 2}, {"workers": 2, "threads": 1}, {"workers": 2, "threads": 2})

CONTESTANTS = (
    Contestant("losscast", "Losscast", ["losscast", "serve"], path="/v1/predict"),
    Contestant("mosec", "mosec", [f"{PEERS}.mosec_server"], MOSEC),
    Contestant("litserve", "LitServe", [f"{PEERS}.litserve_server"], LITSERVE),
    Contestant(
        "bentoml",
        "BentoML",
        ["bentoml", "serve", f"{PEERS}.bentoml_server:Forecasts", "--host", "127.0.0.1", "--port", "{port}"],
        BENTOML,
    ),
    Contestant("fastapi", "FastAPI, plain", [f"{PEERS}.fastapi_server"]),
)
FLOOR = "floor"
FLOOR_LABEL = "no server (the floor)"
FLOOR_BATCHES = (1, 8, 32)
