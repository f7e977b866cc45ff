"""Figures of all scores on the clean test split, and intervals of how far the shipped one is ahead.

Scores of trunks x seeds -> `figures` of each -> means; images are redrawn, the same ones for all scores, trunks
and seeds, and the intervals hold for all rivals at once (max-t).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.rivals import Scores
from models.calibration.loss_map import LossMap, fit_loss_map
from models.evaluation import metrics

Array = NDArray[np.float64]
BUDGETS = (0.05, 0.1, 0.2)
WORST = 0.2  # share of the calibration reference that the second failure level cuts off
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Truth:
    """What one trunk is off by on the test split, and on the calibration split."""

    losses: Array  # [n]
    keypoint_losses: Array  # [n, k], NaN where not annotated
    calibration_losses: Array  # [m]
    failure_level: float

    @property
    def levels(self) -> tuple[float, float]:
        return self.failure_level, float(np.quantile(self.calibration_losses, 1 - WORST))


def figures(scores: Scores, calibration: Scores | None, truth: Truth) -> dict[str, float]:
    """Of one trunk and seed. calibration: the same scorer on the calibration split, for the loss map."""
    s, y = scores.images, truth.losses
    failed, worst = (y > level for level in truth.levels)
    found = {
        "one_minus_naurc": 1 - metrics.normalised_aurc(s, y),
        "failure_auroc": metrics.auroc(s, failed),
        "worst_auroc": metrics.auroc(s, worst),
        "rank_correlation": metrics.rank_correlation(s, y) if np.ptp(s) > 0 else 0.0,
        "share_of_oracle_cut": metrics.share_of_oracle_cut(s, y),
        "false_positive_rate": metrics.false_positive_rate(s, failed),
        "aurc": metrics.aurc(s, y),
    }
    for budget in BUDGETS:
        recall, precision = metrics.recall_and_precision(s, failed, budget)
        found |= {f"recall_{round(100 * budget)}": recall, f"precision_{round(100 * budget)}": precision}
    if scores.keypoints is not None:
        there = ~np.isnan(truth.keypoint_losses)
        wrong = truth.keypoint_losses[there] > truth.failure_level
        found["keypoint_auroc"] = metrics.auroc(scores.keypoints[there], wrong)
    if calibration is not None:
        found |= _calibration(s, y, fit_loss_map(calibration.images, truth.calibration_losses))
    return found


def _calibration(scores: Array, losses: Array, score_map: LossMap) -> dict[str, float]:
    predicted = score_map(scores).astype(np.float64)
    deciles = np.abs(metrics.decile_errors(predicted, losses))
    return {
        "mean_error": float(predicted.mean() / losses.mean() - 1),
        "decile_error_mean": float(deciles.mean()),
        "decile_error_worst": float(deciles.max()),
    }


def ahead(
    shipped: str,
    scores: Mapping[str, Sequence[Sequence[Scores]]],
    losses: Sequence[Array],
    redraws: int,
    sources: NDArray[np.int64] | None = None,
) -> dict[str, dict[str, float]]:
    """1 - nAURC of `shipped` less that of each other: mean over trunks and seeds, with simultaneous intervals.

    scores: by name, then trunk, then seed; losses: [n] of each trunk; sources: [n], what is redrawn as a whole, unset:
    every row by itself. The largest of the rivals' deviations, in their
    standard errors, sets the width of all intervals (max-t; Westfall & Young 1993).
    """
    source = np.arange(losses[0].size) if sources is None else np.unique(sources, return_inverse=True)[1]
    n = int(source.max()) + 1
    orders = {
        name: [[np.argsort(one.images, kind="stable") for one in seeds] for seeds in trunks]
        for name, trunks in scores.items()
    }
    best = [np.argsort(loss, kind="stable") for loss in losses]
    rng = np.random.default_rng(0)
    drawn = [np.ones(n, np.int64), *(rng.multinomial(n, np.full(n, 1 / n)) for _ in range(redraws))]
    draws = [counts[source] for counts in drawn]
    found = np.array([_means(orders, best, losses, counts) for counts in draws])  # [1 + redraws, names]
    names = list(orders)
    difference = found[:, [names.index(shipped)]] - found
    errors = difference[1:].std(axis=0, ddof=1)
    others = [i for i, name in enumerate(names) if name != shipped and errors[i] > 0]
    deviations = np.abs(difference[1:, others] - difference[0, others]) / errors[others]
    reach = float(np.quantile(deviations.max(axis=1), CONFIDENCE))
    return {
        names[i]: {
            "mean": float(difference[0, i]),
            "low": float(difference[0, i] - reach * errors[i]),
            "high": float(difference[0, i] + reach * errors[i]),
        }
        for i in others
    }


def _means(
    orders: Mapping[str, Sequence[Sequence[NDArray[np.intp]]]],
    best: Sequence[NDArray[np.intp]],
    losses: Sequence[Array],
    counts: NDArray[np.int64],
) -> list[float]:
    """1 - nAURC of each name under one redraw, given as how often each image was drawn."""
    ends = [
        (_aurc(order, loss, counts), counts @ loss / counts.sum()) for order, loss in zip(best, losses, strict=True)
    ]
    return [
        float(
            np.mean(
                [
                    1 - (_aurc(order, loss, counts) - least) / (random - least)
                    for trunk, loss, (least, random) in zip(trunks, losses, ends, strict=True)
                    for order in trunk
                ]
            )
        )
        for trunks in orders.values()
    ]


def _aurc(order: NDArray[np.intp], losses: Array, counts: NDArray[np.int64]) -> float:
    drawn = np.repeat(losses[order], counts[order])
    return float((drawn.cumsum() / np.arange(1, drawn.size + 1)).mean())
