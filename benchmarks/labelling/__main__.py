"""The labelling queue measured: `python -m benchmarks.labelling`, from the root of the repository, about ten minutes.

Journal to queue, lease and label, latency from 1,000 to 1,000,000 pending, and what a flagged request
costs. Writes queue.json, queue.md and queue.png. Figures are of one machine: read the ratios.
"""

import asyncio
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import Progress

from benchmarks.labelling.flagged import flagged
from benchmarks.labelling.report import plot, tables
from benchmarks.labelling.scaling import scaling
from benchmarks.labelling.throughput import drained, leased_and_labelled

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "labelling" / "results"
PLOT = ROOT / "docs" / "queue.png"
PARTS = ("drain", "lease_and_label", "scaling", "flagged")
JSON = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Sizes:
    pending: int = 100_000
    drained: int = 60_000  # in one run; the first of them cannot be settled before 2 s
    samples: int = 20_000  # leased and labelled, in one run
    runs: int = 3
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    rounds: int = 1_000
    clients: tuple[int, ...] = (1, 4, 16)
    requests: int = 1_000
    request_rounds: int = 5


TINY = Sizes(200, 100, 80, 1, (100, 200), 5, (2,), 30, 1)
SHARES = (0.0, 0.05, 1.0)


def main(
    part: Annotated[
        list[str] | None, typer.Option(help=f"Measure only this one of {', '.join(PARTS)}, and keep the other results.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for queue.json and queue.md.")] = RESULTS,
    picture: Annotated[Path, typer.Option(help="The plot, as PNG.")] = PLOT,
    tiny: Annotated[bool, typer.Option(help="Some seconds, to try the code; needs --out and --picture.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Measures, prints the tables and writes the results."""
    if tiny and (out == RESULTS or picture == PLOT):
        raise SystemExit("a tiny run is no result: give --out and --picture other places")
    out.mkdir(parents=True, exist_ok=True)
    file = out / "queue.json"
    results = orjson.loads(file.read_bytes()) if file.exists() else {}
    for name in part or PARTS:
        results[name] = asyncio.run(_measure(name, TINY if tiny else Sizes()))
        results[name]["machine"] = _machine()
        file.write_bytes(orjson.dumps(results, option=JSON))
    results = orjson.loads(file.read_bytes())
    text = tables(results)
    (out / "queue.md").write_text(text)
    if "scaling" in results:
        plot(results["scaling"], picture)
    print(text)


async def _measure(part: str, size: Sizes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="losscast-") as folder, Progress() as progress:
        place = Path(folder)
        match part:
            case "drain":
                return await drained(place, size.pending, size.drained, size.runs, progress)
            case "lease_and_label":
                return await leased_and_labelled(place, size.pending, size.samples, size.runs, progress)
            case "scaling":
                return await scaling(place, size.sizes, size.rounds, progress)
            case "flagged":
                return await flagged(place, SHARES, size.clients, size.requests, size.request_rounds, progress)
            case _:
                raise SystemExit(f"there is no part {part}: choose of {', '.join(PARTS)}")


def _machine() -> dict[str, Any]:
    load = [round(one, 2) for one in os.getloadavg()]
    return {"processors": os.cpu_count(), "load_average_after": load, "python": platform.python_version()}


if __name__ == "__main__":
    typer.run(main)
