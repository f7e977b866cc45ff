"""The gate on the labels themselves: no annotator exchanges left and right.

Labels of all splits are looked at, because the candidate learned from most of them. It measures how the live
version reads the images, not a loss of the candidate, so no judging label is spent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.contract.gate_report import GateResult, Outcome
from models.contract.snapshot import Split
from models.refinement.gates.answers import finite, not_asked, rounded_up
from models.refinement.gates.material import Array, Looked, Material
from models.refinement.gates.paired import Change
from models.refinement.gates.swapped import side_evidence, swapped_share, usual_rates
from models.training.augmentation import mirror_order

GATE: Final = "labels"
SPLITS: tuple[Split, ...] = ("train", "watch", "calibrate", "judge")
FEWEST = 50  # labels of an annotator who is looked at alone
FEWEST_TRUSTED = 100  # labels of the test split that say how often honest labels look swapped
TOLERATED = 0.02  # share that may look exchanged beyond what is usual
HARMFUL = 0.2  # share that must be excluded
ALPHA = 0.01  # of each end of all intervals together
EVERYONE = "all annotators together"


@dataclass(frozen=True, slots=True)
class Sided:
    """Labels for which it can be told whether they look swapped."""

    evidence: Array  # [n] of `side_evidence`
    rates: Array  # [n] of `usual_rates`
    annotators: tuple[str, ...]  # [n]


def labels(material: Material) -> GateResult:
    """Fails if an annotator seems to exchange sides; passes if exchanging a fifth of the labels can be excluded."""
    names = material.manifest.task.names
    order = mirror_order(names)
    if material.manifest.task.kind != "keypoints" or order == list(range(len(names))):
        return not_asked(GATE, "The task has no left and right points that an annotator could exchange.")
    rows = material.rows(SPLITS)
    if not rows:
        return not_asked(GATE, "There are no labels.")
    trusted, losses = _evidence(material, "test", order)
    trusted, losses = trusted[np.isfinite(trusted)], losses[np.isfinite(trusted)]
    if trusted.size < FEWEST_TRUSTED:
        why = f"Only {trusted.size} test images show both sides: too few to know how often honest labels look swapped."
        return not_asked(GATE, why)
    found = [_evidence(material, split, order) for split in SPLITS]
    evidence, predicted = (np.concatenate(column) for column in zip(*found, strict=True))
    known = np.isfinite(evidence)
    people = tuple(row.annotator for row, there in zip(rows, known, strict=True) if there)
    return judge(Sided(evidence[known], usual_rates(trusted, losses, evidence[known], predicted[known]), people))


def judge(sided: Sided) -> GateResult:
    """The answer about everyone together and each annotator with `FEWEST` labels or more."""
    everyone = np.array(sided.annotators, np.str_)
    names = [str(name) for name in np.unique(everyone) if (everyone == name).sum() >= FEWEST]
    alpha = ALPHA / (1 + len(names))
    parts = {EVERYONE: np.ones(everyone.size, bool)} | {name: everyone == name for name in names}
    shares = {name: swapped_share(sided.evidence[rows], sided.rates[rows], alpha) for name, rows in parts.items()}
    worst = max(shares, key=lambda name: shares[name].low)
    if shares[worst].low > TOLERATED:
        return _answer("failed", worst, shares[worst], int(parts[worst].sum()), alpha)
    widest = max(shares, key=lambda name: shares[name].high)
    if shares[widest].high < HARMFUL:
        return _answer("passed", widest, shares[widest], int(parts[widest].sum()), alpha)
    return _answer("too_few_labels", widest, shares[widest], int(parts[widest].sum()), alpha)


def _answer(outcome: Outcome, who: str, share: Change, labels: int, alpha: float) -> GateResult:
    found = (
        f"Of the labels of {who}, {100 * share.estimate:.0f} % seem to have left and right exchanged "
        f"({100 * share.low:.0f} to {100 * share.high:.0f} %, {labels} labels)"
    )
    needed = None
    if outcome == "too_few_labels":
        needed = max(10, rounded_up(labels * ((share.high - share.estimate) / HARMFUL) ** 2 - labels))
        found += f". To exclude that a fifth is exchanged needs about {needed} more labels, best of the audit lane."
    elif outcome == "failed":
        found += ": look at them before anything learns from them."
    else:
        found += ": a fifth or more is excluded."
    return GateResult(
        gate=GATE,
        outcome=outcome,
        sentence=found,
        limit=HARMFUL if outcome != "failed" else TOLERATED,
        labels=labels,
        alpha=alpha,
        needed=needed,
        **finite(estimate=share.estimate, low=share.low, high=share.high),
    )


def _evidence(material: Material, name: Looked, order: Sequence[int]) -> tuple[Array, Array]:
    """The evidence of sides and the predicted loss of each image of a set, [n]."""
    examples, live = material.examples(name), material.inputs.live
    if not len(examples):
        return np.zeros(0), np.zeros(0)
    evidence = side_evidence(material.outputs(live, name)["prediction"], examples.targets, order)
    return evidence, material.column(live, name, "predicted_loss")
