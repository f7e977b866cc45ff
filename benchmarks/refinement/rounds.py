"""One measured round of refinement: what the version before, the candidate and its placebo do on the same images."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.contract.candidates import CandidateRecord
from models.contract.snapshot import Row
from models.evaluation.bundle import run_bundle
from models.evaluation.metrics import auroc, normalised_aurc
from models.refinement.cycle import Judge, Judged, Refinement, RefinementResult, StartTrainer, live_version, refine
from models.refinement.judging import gates
from models.tasks.protocol import Examples, RegressionTask

RESULTS = Path(__file__).with_name("results")
WORST = 0.1

Figures = dict[str, float]
Record = dict[str, Any]


def turn(
    asked: Refinement, start: StartTrainer, rows: Sequence[Row], number: int, measured: Mapping[str, Examples]
) -> tuple[RefinementResult, Record]:
    """Refines once. measured: images by name, "old" and "stream", of which nothing learns."""
    seen: dict[str, dict[str, Figures]] = {}
    live, began = live_version(asked.store, asked.model), time.monotonic()
    outcome = refine(asked, start, _measuring(asked, measured, seen))
    labels = Counter(row.split for row in rows)
    return outcome, {
        "round": number,
        "live": int(live.name),
        "labels": {split: labels[split] for split in ("train", "calibrate", "judge", "watch")},
        **seen,
        "story": _story(outcome.folder),
        "gates": list(outcome.judged.lines),
        "passed": outcome.judged.passed,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


def table(rounds: Sequence[Record]) -> str:
    """A Markdown table: mean loss and worst tenth of each kind of measured image."""
    where = [name for name in ("old", "stream") if name in rounds[0]["before"]]
    columns = " | ".join(f"{name.replace('old', 'old test')}: mean | worst tenth" for name in where)
    lines = [f"| round | labels that teach | | {columns} |", "|---|---|---|" + "---|" * 2 * len(where)]
    for one in rounds:
        for name in ("before", "after", "placebo"):
            figures = [f"{one[name][kind][figure]:.{_digits(one)}f}" for kind in where for figure in ("mean", "worst")]
            verdict = f" ({'passed' if one['passed'] else 'refused'})" if name == "after" else ""
            lines.append(f"| {one['round']} | {one['labels']['train']} | {name}{verdict} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _digits(record: Record) -> int:
    """Of a loss after the point: pixels have two, torso lengths four."""
    return 2 if record["before"]["old"]["mean"] > 1 else 4


def _measuring(asked: Refinement, measured: Mapping[str, Examples], seen: dict[str, dict[str, Figures]]) -> Judge:
    """The gates, which also keep the figures of all three while the placebo is there."""
    whole = gates(asked)

    def judge(live: Path, candidate: Path, placebo: Path | None, record: CandidateRecord) -> Judged:
        for name, folder in (("before", live), ("after", candidate), ("placebo", placebo or live)):
            seen[name] = {kind: _figures(folder, asked.task, examples) for kind, examples in measured.items()}
        return whole(live, candidate, placebo, record)

    return judge


def _figures(folder: Path, task: RegressionTask, examples: Examples) -> Figures:
    manifest, outputs = run_bundle(folder, task, examples)
    losses = task.true_loss(outputs["prediction"], examples.targets)
    score = outputs["score"].astype(np.float64)
    point = manifest.operating_points[manifest.default_operating_point]
    flags = point.flags(score, outputs["ood_score"].astype(np.float64))
    return {
        "mean": float(losses.mean()),
        "worst": float(np.sort(losses)[-int(WORST * losses.size) :].mean()),
        "flagged": float(np.logical_or.reduce(list(flags.values())).mean()),
        "failures": float((losses > task.loss.failure_level).mean()),
        "failure_auroc": float(auroc(score, losses > task.loss.failure_level)),
        "one_minus_naurc": float(1 - normalised_aurc(score, losses)),
    }


def _story(folder: Path) -> str:
    """The sentence of the model card that says how the weights came about."""
    card = (folder / "model_card.md").read_text()
    return next(line for line in card.splitlines() if line.startswith(("It was fine-tuned", "The regressor is that")))
