"""The drift detector proved by simulation: `python -m benchmarks.drift`, from the repository's root; some 25 minutes.

False alerts on quiet traffic of several kinds, images until a change is found, and detectors in wide use on the same
streams. Writes drift.json, drift.md and drift.png. A run that was cut off goes on where it was; `--only NAME` makes
that one anew. Deterministic: every run has a seed of its own.
"""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import Progress

from benchmarks.drift.conditions import CHANGES, QUIET, Change, Quiet
from benchmarks.drift.report import plot, tables
from benchmarks.drift.running import run_change, run_quiet

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "drift" / "results"
PLOT = ROOT / "docs" / "drift.png"
JSON = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def main(
    only: Annotated[list[str] | None, typer.Option(help="Names of runs to make again.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for drift.json and drift.md.")] = RESULTS,
    picture: Annotated[Path, typer.Option(help="The plot, as PNG.")] = PLOT,
    tiny: Annotated[bool, typer.Option(help="Seconds, to try the code; give --out and --picture too.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Runs what is not there yet, prints the tables and writes the results."""
    if tiny and (out == RESULTS or picture == PLOT):
        raise SystemExit("a tiny run is no result: give --out and --picture other places")
    conditions: dict[str, Quiet | Change] = {**QUIET, **CHANGES}
    unknown = set(only or ()) - set(conditions)
    if unknown:
        raise SystemExit(f"there is no run {', '.join(sorted(unknown))}: choose of {'; '.join(conditions)}")
    out.mkdir(parents=True, exist_ok=True)
    file = out / "drift.json"
    results: dict[str, Any] = orjson.loads(file.read_bytes()) if file.exists() else {}
    with Progress() as progress:
        for name, condition in conditions.items():
            if name in results and name not in (only or ()):
                continue
            results[name] = _run(name, _tiny(condition) if tiny else condition, progress)
            file.write_bytes(orjson.dumps(results, option=JSON))
    text = tables(results)
    (out / "drift.md").write_text(text)
    plot(results, picture)
    print(text)


def _run(name: str, condition: Quiet | Change, progress: Progress) -> dict[str, Any]:
    task = progress.add_task(name, total=1.0)
    started = time.process_time()

    def tick(share: float) -> None:
        progress.advance(task, share)

    found = run_quiet(name, condition, tick) if isinstance(condition, Quiet) else run_change(name, condition, tick)
    return {**found, "condition": _described(condition), "cpu_s": round(time.process_time() - started)}


def _described(condition: Quiet | Change) -> dict[str, Any]:
    world = condition.world
    plain = {"title": world.title, "per_s": world.per_s, "cycle": world.cycle, "mismatch": world.mismatch}
    return {**asdict(replace(condition, world=replace(world, sequence=None))), "world": plain}


def _tiny(condition: Quiet | Change) -> Quiet | Change:
    if isinstance(condition, Quiet):
        return replace(condition, deployments=4, days=1, step_s=1200.0, rivals=min(condition.rivals, 1))
    return replace(condition, deployments=4, horizon=600, rivals=min(condition.rivals, 1))


if __name__ == "__main__":
    typer.run(main)
