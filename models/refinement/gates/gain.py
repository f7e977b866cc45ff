"""The gates on labels that nothing has learned from: the candidate is better where live was worst, and not worse else.

The judging half of the audit lane is a fair draw of traffic. Watch labels, of flagged images, add to its worst part.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contract.gate_report import GateResult
from models.contract.snapshot import Row, Split
from models.refinement.gates.answers import Question, answer, not_asked
from models.refinement.gates.material import Array, Material, probabilities
from models.refinement.gates.paired import Pairs
from models.refinement.gates.traffic import traffic_weights

MEAN_MARGIN = 0.03
JUDGING: tuple[Split, ...] = ("judge", "watch")
MEAN, TAIL, PLACEBO, UNLABELLED = "gain: mean", "gain: worst decile", "placebo", "skipped images"


@dataclass(frozen=True, slots=True)
class Judging:
    """The labels that may judge this attempt, and its alpha."""

    material: Material
    labels: frozenset[str]  # sample ids
    alpha: float

    def audit(self, other: Path) -> Pairs:
        """The candidate against `other` on the audit labels."""
        pairs = self._pairs(other)
        count = int(self._chosen("judge").sum())
        return pairs.rows(np.arange(len(pairs)) < count)

    def traffic(self, other: Path) -> Pairs:
        """The candidate against `other` on audit and watch labels, weighted to represent traffic."""
        live, (audit, watch) = self.material.inputs.live, (self._chosen(split) for split in JUDGING)
        weights = traffic_weights(
            probabilities(self.material.rows(("judge",)))[audit],
            self.material.flagged(live, "judge")[audit],
            self.material.flagged(live, "watch")[watch],
        )
        pairs = replace(self._pairs(other), weights=weights)
        return pairs.rows(weights > 0)

    def rows(self) -> list[Row]:
        """The labels that judge, those of the audit lane first; `losses` and `predictions` are in their order."""
        return [row for row in self.material.rows(JUDGING) if row.sample_id in self.labels]

    def losses(self, folder: Path) -> Array:
        """The true losses of a version, [n]."""
        return np.concatenate([self.material.losses(folder, split)[self._chosen(split)] for split in JUDGING])

    def predictions(self, folder: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Predictions and targets of each split that is not empty, in canvas units."""
        for split in JUDGING:
            chosen, examples = self._chosen(split), self.material.examples(split)
            if chosen.any():
                yield self.material.outputs(folder, split)["prediction"][chosen], examples.targets[chosen]

    def _pairs(self, other: Path) -> Pairs:
        """Audit labels first, with the weights of a draw from the audit lane alone."""
        rows = self.rows()
        groups = np.array([row.group for row in rows], np.str_)
        return Pairs.of(
            self.losses(other), self.losses(self.material.inputs.candidate), groups, 1 / probabilities(rows)
        )

    def _chosen(self, split: Split) -> NDArray[np.bool_]:
        return np.array([row.sample_id in self.labels for row in self.material.rows((split,))], bool)


def gain(judging: Judging) -> tuple[GateResult, GateResult]:
    """The mean loss and the worst decile against live."""
    live = judging.material.inputs.live
    return mean_change(judging.audit(live), judging.alpha), tail_change(judging.traffic(live), judging.alpha)


def mean_change(pairs: Pairs, alpha: float) -> GateResult:
    return answer(Question(MEAN, "mean loss", MEAN_MARGIN, "audit labels", alpha=alpha), pairs)


def tail_change(pairs: Pairs, alpha: float, gate: str = TAIL, against: str = "live") -> GateResult:
    tails = pairs.tails() if len(pairs) else pairs
    figure = "mean loss of the worst decile"
    return answer(Question(gate, figure, 0.0, "audit and watch labels", against, alpha), tails)


def placebo(judging: Judging) -> GateResult:
    """Whether the labels made the worst decile better, or more training alone did."""
    other = judging.material.inputs.placebo
    if other is None:
        return not_asked(PLACEBO, "There is no placebo: the same steps were not taken on replay alone.")
    return tail_change(judging.traffic(other), judging.alpha, PLACEBO, "the same training without the labels")


def unlabelled(judging: Judging, found: tuple[GateResult, GateResult]) -> GateResult:
    """Images without a label are not missing at random: would the gain still be there with their losses?

    Both models get loss 0 on all of them, then the bound of the loss: no answer of the gain may change.
    """
    material = judging.material
    count = material.inputs.skipped + sum(len(material.labelled(split).left_out) for split in JUDGING)
    if not count:
        return not_asked(UNLABELLED, "No judging image was skipped, rejected or left out.")
    if any(one.outcome != "passed" for one in found):
        return not_asked(UNLABELLED, f"{count} judging images have no label, and the gain does not pass without them.")
    live = material.inputs.live
    audit, traffic = judging.audit(live), judging.traffic(live)
    bound = material.manifest.loss.bound or float(max(traffic.live.max(), traffic.candidate.max()))
    for loss in (0.0, bound):
        both = (with_losses(pairs, count, loss) for pairs in (audit, traffic))
        mean, tail = next(both), next(both)
        after = [mean_change(mean, judging.alpha).outcome, tail_change(tail, judging.alpha).outcome]
        changed = [one.gate for one, now in zip(found, after, strict=True) if now != "passed"]
        if changed:
            sentence = (
                f"{count} judging images have no label. If their loss were {loss:g}, {' and '.join(changed)} would not "
                "pass: label them, or judge with more labels."
            )
            return GateResult(gate=UNLABELLED, outcome="failed", sentence=sentence, labels=count)
    sentence = f"{count} judging images have no label: whatever their loss is, the gain passes."
    return GateResult(gate=UNLABELLED, outcome="passed", sentence=sentence, labels=count)


def with_losses(pairs: Pairs, count: int, loss: float) -> Pairs:
    """Adds `count` rows, each a group of its own and of mean weight, on which both models have this loss."""
    rows = np.full(count, loss)
    groups = np.concatenate((pairs.groups, pairs.groups.max(initial=-1) + 1 + np.arange(count)))
    weights = np.concatenate((pairs.weights, np.full(count, pairs.weights.mean())))
    return Pairs(np.concatenate((pairs.live, rows)), np.concatenate((pairs.candidate, rows)), weights, groups)
