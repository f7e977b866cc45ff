"""Serving measured beside others: `python -m benchmarks.serving --cache FOLDER`, from the root; some 20 minutes.

Builds an environment for each server, seeks its best settings, then visits all of them in rounds, in random order.
Writes serving.json after every visit (a run that was stopped goes on where it was), serving.md and serving.png.
Client and servers share the machine: read the processor times first, and ratios rather than figures.
"""

import os
import platform
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import Progress

from benchmarks.serving.contestants import CONTESTANTS, FLOOR, Contestant
from benchmarks.serving.environments import PINS, ROOT, interpreter
from benchmarks.serving.gpu import NoGpu, check_gpu, on_gpu, table
from benchmarks.serving.material import Material, prepare
from benchmarks.serving.ratios import BARE
from benchmarks.serving.report import plot, tables
from benchmarks.serving.rounds import (
    HEADLINE,
    Plan,
    best_floor,
    best_settings,
    floor,
    headline,
    visit,
)
from benchmarks.serving.soak import soak as soak_test
from models.contract.bundle import read_manifest
from service.inference.engine import EngineError
from service.settings import available_cpus

RESULTS = ROOT / "benchmarks" / "serving" / "results"
PLOT = ROOT / "docs" / "serving.png"
JSON = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS
QUICK = ("losscast", "fastapi")  # need no environment of their own
BY_NAME = {one.name: one for one in CONTESTANTS}
MATERIALS = ("tiny", "keypoints")
GPU_CLIENTS = 64


def main(  # noqa: PLR0913, PLR0917 - a command's options
    cache: Annotated[Path, typer.Option(help="Folder for environments, bundles and images; kept.")],
    out: Annotated[Path, typer.Option(help="Folder for serving.json and serving.md.")] = RESULTS,
    picture: Annotated[Path, typer.Option(help="The plot, as PNG.")] = PLOT,
    rounds: Annotated[int, typer.Option(help="How often everything is visited.")] = 5,
    seconds: Annotated[float, typer.Option(help="Of one load.")] = 2.0,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(BY_NAME)}; the others stay.")] = None,
    model: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(MATERIALS)}; the others stay.")] = None,
    quick: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option(help="A short round of the tiny model, nothing installed; give --out and --picture.")
    ] = False,
    soak: Annotated[int, typer.Option(help="Requests on the tiny model, watching memory; nothing else.")] = 0,
    gpu: Annotated[bool, typer.Option(help="The engine on a GPU; nothing else.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Measures, prints the tables and writes the results."""
    if gpu:
        measure_gpu(cache, out, seconds)
        return
    if quick and (out == RESULTS or picture == PLOT):
        raise SystemExit("a quick run is no result: give --out and --picture other places")
    names = QUICK if quick else only or list(BY_NAME)
    models = model or (MATERIALS[:1] if quick else MATERIALS)
    plan = Plan(cache, 0.5, (8, HEADLINE)) if quick else Plan(cache, seconds)
    bench = Bench([BY_NAME[name] for name in names], plan, prepare(cache, models), out / "serving.json")
    if soak:
        bench.soak(soak)
    else:
        bench.run(models, 1 if quick else rounds)
    text = tables(bench.results)
    (out / "serving.md").write_text(text)
    plot(bench.results, picture)
    print(text)


class Bench:
    """Results on disk, and what is still missing from them."""

    def __init__(
        self, contestants: Sequence[Contestant], plan: Plan, material: dict[str, Material], file: Path
    ) -> None:
        self._contestants = contestants
        self._plan = replace(plan, folder=plan.folder.resolve())
        self._material = material
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self.results: dict[str, Any] = {"chosen": {}, "visits": {}}
        if file.exists():
            self.results |= orjson.loads(file.read_bytes())
        models = {name: read_manifest(one.bundle).onnx_sha256 for name, one in material.items() if one.bundle.exists()}
        if any(models.get(name, digest) != digest for name, digest in self.results.get("models", {}).items()):
            raise SystemExit(f"{file} is of other models: give another --out, or delete it and --cache")
        self.results |= {"machine": _machine(), "pins": PINS, "models": models}
        for one in contestants:
            interpreter(one.name, self._plan.folder / "environments")

    def run(self, materials: Sequence[str], rounds: int) -> None:
        wanted = [f"{one}/{name}" for one in materials for name in (FLOOR, *(c.name for c in self._contestants))]
        with Progress() as progress:
            for name in progress.track(wanted, description="best settings"):
                if name not in self.results["chosen"]:
                    settings, tried = self._choose(name)
                    self._save("chosen", name, {"settings": settings, "tried": tried})
            for name in progress.track(self._visits(wanted, rounds), description="rounds"):
                self._save("visits", name, self._visit(name))

    def soak(self, total: int) -> None:
        self.results["soak"] = soak_test(BY_NAME["losscast"], self._material["tiny"], self._plan, total)
        self._write()

    def _visits(self, wanted: Sequence[str], rounds: int) -> list[str]:
        """Round by round, in random order within each; without those that are there already."""
        extra = [f"keypoints/{BARE}"] if "keypoints/losscast" in wanted else []
        plan = []
        for number in range(rounds):
            one = [f"{name}/{number}" for name in [*wanted, *extra]]
            random.Random(number).shuffle(one)
            plan += one
        return [name for name in plan if name not in self.results["visits"]]

    def _choose(self, name: str) -> tuple[Any, Any]:
        material, contestant = name.split("/")
        if contestant == FLOOR:
            return best_floor(self._material[material], self._plan)
        return best_settings(BY_NAME[contestant], self._material[material], self._plan)

    def _visit(self, name: str) -> dict[str, Any]:
        material, contestant, _ = name.split("/")
        if contestant == BARE:
            cell = headline(BY_NAME["losscast"], {}, self._material[BARE], self._plan)
            return {f"clients={HEADLINE}": cell}
        settings = self.results["chosen"][f"{material}/{contestant}"]["settings"]
        if contestant == FLOOR:
            return {FLOOR: floor(settings["batch"], self._material[material], self._plan)}
        return visit(BY_NAME[contestant], settings, self._material[material], self._plan)

    def _save(self, part: str, name: str, found: Any) -> None:
        self.results[part][name] = found
        self._write()

    def _write(self) -> None:
        self._file.write_bytes(orjson.dumps(self.results, option=JSON))


def measure_gpu(cache: Path, out: Path, seconds: float) -> None:
    """Writes gpu.json and gpu.md; without a GPU it says so in one line."""
    try:
        check_gpu()
        material = prepare(cache, ["keypoints"])["keypoints"]
        rows = on_gpu(material, seconds)
        plan = Plan(cache.resolve(), seconds)
        served = headline(BY_NAME["losscast"], {}, replace(material, provider="gpu"), plan, GPU_CLIENTS)
    except (NoGpu, EngineError) as error:
        raise SystemExit(str(error)) from error
    text = table(rows, served | {"clients": GPU_CLIENTS})
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_bytes(orjson.dumps({"rows": rows, "served": served} | _machine(), option=JSON))
    (out / "gpu.md").write_text(text)
    print(text)


def _machine() -> dict[str, Any]:
    load = [round(one, 2) for one in os.getloadavg()]
    return {"processors": available_cpus(), "load_average_before": load, "python": platform.python_version()}


if __name__ == "__main__":
    typer.run(main)
