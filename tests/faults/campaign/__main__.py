"""The fault campaign: `python -m tests.faults.campaign`, from the root of the repository. Takes about twenty minutes.

It checks every reply `"queue": "accepted"`. After each fault it looks for each id in the journals' files and in Redis.
It compares keys with counters, and checks confirmed labels, the label stream and the images. It prints
every fault, the number of ids checked, and all problems; it exits with 1 if there were any.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from tests.conftest import _publish_tiny, tiny_onnx
from tests.faults.campaign.chapters import CHAPTERS, Chapter, Size, Skipped
from tests.faults.campaign.stage import Report, opened

AUDIT_RATE = "0"
QUICK_START = {"LOSSCAST_MAX_BATCH": "8", "LOSSCAST_WORKERS": "2"}  # fewer sizes to measure when a service starts
console = Console(width=200, highlight=False, soft_wrap=True)


def main(  # noqa: PLR0913, PLR0917 - a command's options are its function's parameters
    samples: Annotated[int, typer.Option(min=10, help="At least that many ids in all.")] = 20_000,
    times: Annotated[float, typer.Option(help="Faults of each kind, as a share of the long form.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the moments and the images.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Chapters by name; all when left out.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Chapters that run side by side.")] = 3,
    out: Annotated[Path | None, typer.Option(help="A file for the results, as JSON.")] = None,
) -> None:
    """Causes the faults, chapter by chapter, and keeps the account."""
    started_s = time.monotonic()
    chosen = {chapter: size for chapter, size in CHAPTERS.items() if not only or chapter.__name__ in only}
    with tempfile.TemporaryDirectory(prefix="losscast-", dir="/tmp") as folder:
        _publish_tiny(Path(folder) / "bundles", tiny_onnx())
        jobs = [
            (chapter, Size(samples * size.samples // 100 + 1, max(round(size.times * times), 1)), Path(folder), seed)
            for chapter, size in chosen.items()
        ]
        with ThreadPoolExecutor(at_once) as pool:
            reports = list(pool.map(_run, *zip(*jobs, strict=True)))
    summary = {
        "command": _command(samples, times, seed, only or []),
        "ids_checked": sum(report.ids for report in reports),
        "faults": dict(sum((Counter(report.faults) for report in reports), Counter[str]())),
        "problems": [f"{report.name}: {problem}" for report in reports for problem in report.problems],
        "minutes": round((time.monotonic() - started_s) / 60, 1),
        "skipped": {report.name: report.skipped for report in reports if report.skipped},
        "chapters": [asdict(report) for report in reports],
    }
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    console.print(
        f"{summary['ids_checked']} ids checked, {sum(report.checks for report in reports)} times over as they grew; "
        f"faults: {summary['faults']}; problems: {summary['problems'] or 'none'}; {summary['minutes']} minutes"
    )
    raise typer.Exit(1 if summary["problems"] else 0)


def _command(samples: int, times: float, seed: int, only: Sequence[str]) -> str:
    chapters = "".join(f" --only {name}" for name in only)
    return f"python -m tests.faults.campaign --samples {samples} --times {times:g} --seed {seed}{chapters}"


def _run(chapter: Chapter, size: Size, folder: Path, seed: int) -> Report:
    report = Report(chapter.__name__, (chapter.__doc__ or "").splitlines()[0])
    place = folder / f"{list(CHAPTERS).index(chapter)}"
    place.mkdir()
    settings = {"LOSSCAST_BUNDLES": str(folder / "bundles"), "LOSSCAST_AUDIT_RATE": AUDIT_RATE, **QUICK_START}
    try:
        with opened(place, report, seed, settings) as stage:
            chapter(stage, size)
            if not report.states:
                stage.finish()
    except Skipped as reason:
        report.skipped = str(reason)
    except Exception as error:  # noqa: BLE001 - the other chapters must run; this one counts as failed
        report.problems.append(f"the chapter failed: {error!r}")
    _show(report)
    return report


def _show(report: Report) -> None:
    console.print(
        f"{report.name}: {report.what} {report.skipped and f'SKIPPED: {report.skipped}'}\n"
        f"  {report.ids} ids checked {report.checks} times, {report.labels} labels, {report.images} images, "
        f"{report.seconds:.0f} s\n  faults  {dict(report.faults)}\n  states  {report.states}\n"
        f"  replies {report.replies}\n  problems {report.problems or 'none'}"
    )


if __name__ == "__main__":
    typer.run(main)
