"""Does the gate on labels see an annotator who exchanges left and right in a fifth of them?

Labels are the real ones of the calibration split of pose; the test split says how often honest ones look swapped.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bundle import run_bundle
from models.refinement.gates.annotators import Sided, judge
from models.refinement.gates.swapped import side_evidence, usual_rates
from models.tasks.pose import Pose
from models.training.augmentation import mirror_order

RUNS = 50
HONEST_RUNS = 500
SHARE = 0.2
LABELS = (100, 200, 400, 800)


def exchanged_sides(bundle: Path, task: Pose) -> list[dict[str, Any]]:
    """One row for each number of labels: the answers about honest annotators and about exchanging ones."""
    order = mirror_order(task.task.names)
    seen = [_evidence(bundle, task, split, order) for split in ("test", "calibration")]
    (trusted, trusted_losses), (evidence, losses) = seen
    rates = usual_rates(trusted, trusted_losses, evidence, losses)
    rng = np.random.default_rng(0)
    return [
        {
            "labels": labels,
            "honest": _answers(evidence, rates, labels, 0.0, HONEST_RUNS, rng),
            "exchanging": _answers(evidence, rates, labels, SHARE, RUNS, rng),
        }
        for labels in LABELS
    ]


def _evidence(
    bundle: Path, task: Pose, split: Any, order: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    examples = task.examples(split)
    outputs = run_bundle(bundle, task, examples)[1]
    evidence = side_evidence(outputs["prediction"], examples.targets, order)
    known = np.isfinite(evidence)
    return evidence[known], outputs["predicted_loss"].astype(np.float64)[known]


def _answers(  # noqa: PLR0913, PLR0917 - the parts of one cell
    evidence: NDArray[np.float64],
    rates: NDArray[np.float64],
    labels: int,
    share: float,
    runs: int,
    rng: np.random.Generator,
) -> dict[str, int]:
    """An exchanged label turns the evidence around."""
    answers = {"passed": 0, "failed": 0, "too_few_labels": 0}
    for _ in range(runs):
        rows = rng.permutation(evidence.size)[:labels]
        turned = np.where(rng.random(rows.size) < share, -1, 1)
        answers[judge(Sided(evidence[rows] * turned, rates[rows], ("one",) * rows.size)).outcome] += 1
    return answers
