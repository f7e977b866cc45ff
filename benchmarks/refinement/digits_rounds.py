"""Three rounds of refinement of digits that meet a corruption they have not seen, with labels by the truth.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.refinement.digits_rounds

In each round the live version sees new canvases. Half of them are corrupted. Annotators who make no mistake label some
of those that it flags, and some that chance draws. `refine` makes a candidate and its placebo, and the gates decide
which version is live in the next round. The figures are mean losses and means of the worst tenth, in pixels.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.refinement.oracle import Stream, label_stream, write_snapshot
from models.contract.bundle import next_version, publish, read_manifest
from models.contract.candidates import CandidateRecord, change_state
from models.contract.live import make_live
from models.contract.snapshot import Row
from models.evaluation.bundle import run_bundle
from models.refinement.config import RefinementConfig
from models.refinement.cycle import Judge, Judged, Refinement, RefinementResult, live_version, refine
from models.refinement.judging import gates
from models.tasks.digits import Digits
from models.tasks.protocol import Examples
from models.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
WORST = 0.1

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Settings:
    rounds: int = 3
    flagged: int = 200  # labels of each round
    audits: int = 300
    kind: str = "inversion"
    strength: float = 0.6
    effort: float = 0.5
    seed: int = 0


def main() -> None:
    settings = _settings()
    task = Digits()
    stream = Stream(task, settings.kind, settings.strength, seed=settings.seed)  # type: ignore[arg-type]  # argparse checks it
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for record in run(settings, task, stream, Path(scratch)):
            found.append(record)
            _write(settings, found)
    print(table(found))


def _write(settings: Settings, rounds: list[Any]) -> None:
    """After each round: a long run that is cut off keeps its first rounds."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"digits_rounds_{settings.kind}.json"
    content = {"settings": asdict(settings), "rounds": rounds}
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def run(settings: Settings, task: Digits, stream: Stream, scratch: Path) -> Any:
    """Yields one record for each round."""
    store = scratch / "bundles"
    shutil.copytree(ROOT / "bundles" / "digits", store / "digits")
    measured = {"old": task.examples("test", task.test_views), "stream": stream.test()}
    rows: list[Row] = []
    images: list[bytes] = []
    for number in range(settings.rounds):
        live = live_version(store, "digits")
        new_rows, new_images = label_stream(stream.draw(number), live, number, settings.flagged, settings.audits)
        rows, images = [*rows, *new_rows], [*images, *new_images]
        folder = write_snapshot(scratch / f"snapshot-{number}", live, rows, images)
        teaching = sum(row.split == "train" for row in rows)
        config = RefinementConfig(seed=settings.seed + number).for_labels(teaching, settings.effort)
        asked = Refinement(store, "digits", task, folder, config, "benchmark")
        seen: dict[str, dict[str, Figures]] = {}
        began = time.monotonic()
        outcome = refine(asked, _start, _measuring(asked, measured, task, seen))
        record = {
            "round": number + 1,
            "live": int(live.name),
            "labels": {
                split: sum(row.split == split for row in rows) for split in ("train", "calibrate", "judge", "watch")
            },
            **seen,
            "story": _story(outcome.folder),
            "gates": list(outcome.judged.lines),
            "passed": outcome.judged.passed,
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        if outcome.judged.passed:
            _go_live(outcome, store)
        print(table([record]), *record["gates"], sep="\n", flush=True)  # type: ignore[misc]  # a list
        yield record


def table(rounds: list[Mapping[str, Any]]) -> str:
    """A Markdown table: mean loss and worst tenth on the frozen test split and on the corrupted stream."""
    lines = [
        "| round | labels that teach | | old test: mean | worst tenth | stream: mean | worst tenth |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rounds:
        for name in ("before", "after", "placebo"):
            figures = [f"{one[name][where][figure]:.2f}" for where in ("old", "stream") for figure in ("mean", "worst")]
            verdict = f" ({'passed' if one['passed'] else 'refused'})" if name == "after" else ""
            lines.append(f"| {one['round']} | {one['labels']['train']} | {name}{verdict} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _measuring(
    asked: Refinement, measured: Mapping[str, Examples], task: Digits, seen: dict[str, dict[str, Figures]]
) -> Judge:
    """The gates, which also keep the figures of all three while the placebo is there."""
    whole = gates(asked)

    def judge(live: Path, candidate: Path, placebo: Path | None, record: CandidateRecord) -> Judged:
        for name, folder in (("before", live), ("after", candidate), ("placebo", placebo or live)):
            seen[name] = {where: _figures(folder, task, examples) for where, examples in measured.items()}
        return whole(live, candidate, placebo, record)

    return judge


def _figures(folder: Path, task: Digits, examples: Examples) -> Figures:
    manifest, outputs = run_bundle(folder, task, examples)
    losses = np.sort(task.true_loss(outputs["prediction"], examples.targets))
    point = manifest.operating_points[manifest.default_operating_point]
    flags = point.flags(outputs["score"].astype(np.float64), outputs["ood_score"].astype(np.float64))
    flagged = np.logical_or.reduce(list(flags.values()))
    return {
        "mean": float(losses.mean()),
        "worst": float(losses[-int(WORST * losses.size) :].mean()),
        "flagged": float(flagged.mean()),
    }


def _story(folder: Path) -> str:
    """The sentence of the model card that says how the weights came about."""
    card = (folder / "model_card.md").read_text()
    return next(line for line in card.splitlines() if line.startswith(("It was fine-tuned", "The regressor is that")))


def _go_live(outcome: RefinementResult, store: Path) -> None:
    number = next_version(store / "digits")
    manifest = read_manifest(outcome.folder).model_copy(update={"version": str(number)})
    files = {name: (outcome.folder / name).read_bytes() for name in ("model.onnx", "model_card.md")}
    make_live(publish(store, manifest, files))
    change_state(outcome.folder, "live", who="benchmark", reason="the gates passed", version=number)


def _start(folder: Path) -> Trainer:
    return Trainer.start(folder=folder)


def _settings() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Settings()
    for name, value in asdict(usual).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return Settings(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
