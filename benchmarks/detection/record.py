"""From the scores of all trunks to the record that is published: plain numbers, ready for JSON."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.detection.compare import Truth, ahead, figures
from benchmarks.detection.corruptions import KINDS, STRENGTHS
from benchmarks.detection.rivals import COSTLY, ENSEMBLE, LEARNED, SHIPPED, UNLEARNED, Scores
from benchmarks.detection.shift import RULES, aurocs
from models.evaluation import metrics

Array = NDArray[np.float64]
OOD = "Mahalanobis distance"
VERDICT = "OOD flag first, by OOD score"
POINTS = 60  # of a risk-coverage curve
CURVES = (SHIPPED, "heatmap peak, mean", "pooled head, LearningLoss++", OOD, ENSEMBLE)


@dataclass(frozen=True, slots=True)
class Answers:
    """One trunk: scores by name, seed and split, and what it is off by."""

    number: int
    scores: dict[str, list[dict[str, Scores]]]
    keypoint_losses: dict[str, Array]  # by split: [n, k], NaN where not annotated
    predictions: Array  # of the test split, [n, k, 2]
    failure_level: float
    training_losses: dict[str, float]  # mean losses of images that the trunk held out, and of those that it learned

    def losses(self, split: str) -> Array:
        return np.asarray(np.nanmean(self.keypoint_losses[split], axis=1))

    @property
    def truth(self) -> Truth:
        return Truth(self.losses("test"), self.keypoint_losses["test"], self.losses("calibration"), self.failure_level)


def assemble(answers: list[Answers], redraws: int) -> dict[str, Any]:
    """Everything that the page shows."""
    names = [name for name in (*LEARNED, *UNLEARNED, *COSTLY, ENSEMBLE) if name in answers[0].scores]
    test = {name: [[seed["test"] for seed in one.scores[name]] for one in answers] for name in names}
    losses = [one.losses("test") for one in answers]
    return {
        "conditions": _conditions(answers),
        "trunks": [_trunk(one) for one in answers],
        "shipped": SHIPPED,
        "figures": {name: _mean_figures(answers, name) for name in names}
        | {"random": _end(answers, oracle=False), "oracle": _end(answers, oracle=True)},
        "ahead": ahead(SHIPPED, test, losses, redraws),
        "shift": _shift(answers),
        "curves": {name: _curve(test[name], losses) for name in CURVES if name in test}
        | {"oracle": _curve([[Scores(loss)] for loss in losses], losses)},
    }


def _conditions(answers: list[Answers]) -> dict[str, Any]:
    return {
        "trunks": [one.number for one in answers],
        "head_seeds": len(answers[0].scores[SHIPPED]),
        "test_images": len(answers[0].predictions),
        "calibration_images": len(answers[0].keypoint_losses["calibration"]),
        "failure_level": answers[0].failure_level,
        "software": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def _trunk(one: Answers) -> dict[str, float]:
    there = one.keypoint_losses["test"][~np.isnan(one.keypoint_losses["test"])]
    losses = one.losses("test")
    return {
        "number": one.number,
        "pck": float((there < 0.5).mean()),  # noqa: PLR2004 - PCK at half a torso, as usual
        "mean_loss": float(losses.mean()),
        "failure_rate": float((losses > one.failure_level).mean()),
        "mean_loss_held_out": one.training_losses["head"],
        "mean_loss_learned": one.training_losses["trunk"],
    }


def _mean_figures(answers: list[Answers], name: str) -> dict[str, dict[str, float]]:
    """Mean over trunks and seeds, and the worst of them."""
    rows = [figures(seed["test"], seed.get("calibration"), one.truth) for one in answers for seed in one.scores[name]]
    return mean_and_worst(rows)


def mean_and_worst(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of each figure over the rows, one for each trunk and seed."""
    return {key: _mean_and_worst(key, [row[key] for row in rows]) for key in rows[0]}


LOWER_IS_BETTER = ("false_positive_rate", "aurc", "decile_error_mean", "decile_error_worst")


def _mean_and_worst(key: str, values: list[float]) -> dict[str, float]:
    highest = max if key in LOWER_IS_BETTER else min
    worst = max(values, key=abs) if key == "mean_error" else highest(values)
    return {"mean": float(np.mean(values)), "worst": float(worst)}


def _end(answers: list[Answers], *, oracle: bool) -> dict[str, dict[str, float]]:
    truths = [one.truth for one in answers]
    rows = [figures(Scores(t.losses if oracle else np.zeros_like(t.losses)), None, t) for t in truths]
    return mean_and_worst(rows)


def _shift(answers: list[Answers]) -> dict[str, Any]:
    """By corruption and strength: failure rate, and the AUROC of each score."""
    cells = {
        f"{kind}-{strength}": [_cell(*row) for row in _runs(answers, [f"{kind}-{strength}"])]
        for kind, strength in product(KINDS, STRENGTHS)
    }
    kinds = {
        kind: [_cell(*row) for row in _runs(answers, [f"{kind}-{strength}" for strength in STRENGTHS])]
        for kind in KINDS
    }
    everything = [f"{kind}-{strength}" for kind, strength in product(KINDS, STRENGTHS)]
    whole = {"all together": [_cell(*row) for row in _runs(answers, everything)]}
    return {
        name: {part: _means(cells_of) for part, cells_of in group.items()}
        for name, group in {"strengths": cells, "kinds": kinds, "all": whole}.items()
    }


def _runs(answers: list[Answers], splits: list[str]) -> Iterator[tuple[Answers, int, dict[str, Array], Array]]:
    """Of each trunk and seed of its heads: the scores under these corruptions, and the losses."""
    for one in answers:
        for seed, shipped in enumerate(one.scores[SHIPPED]):
            rivals = {
                name: runs[min(seed, len(runs) - 1)]
                for name, runs in one.scores.items()
                if splits[0] in runs[0] and name != SHIPPED
            } | {SHIPPED: shipped}
            scores = {name: np.concatenate([by[split].images for split in splits]) for name, by in rivals.items()}
            yield one, seed, scores, np.concatenate([one.losses(split) for split in splits])


def _cell(one: Answers, seed: int, scores: dict[str, Array], losses: Array) -> dict[str, float]:
    """The verdict with its score threshold moving flags what is beyond the OOD threshold first."""
    known = one.scores[SHIPPED][seed]["calibration"].images, one.scores[OOD][0]["calibration"].images
    ranks = {VERDICT: RULES[VERDICT]((scores[SHIPPED], scores[OOD]), known)}
    return {
        "failure_rate": float((losses > one.failure_level).mean()),
        **aurocs(ranks | {SHIPPED: scores[SHIPPED]} | scores, losses, one.failure_level),
    }


def _means(rows: list[dict[str, float]]) -> dict[str, float | None]:
    """None where no run defines a figure."""
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return {key: float(np.nanmean(one)) if np.isfinite(one).any() else None for key, one in columns.items()}


def _curve(trunks: list[list[Scores]], losses: list[Array]) -> list[list[float]]:
    """Coverage and risk, mean over trunks and seeds, at `POINTS` coverages."""
    curves = [
        metrics.risk_coverage(seed.images, loss) for seeds, loss in zip(trunks, losses, strict=True) for seed in seeds
    ]
    at = np.linspace(0.05, 1, POINTS)
    risk = np.mean([np.interp(at, *curve) for curve in curves], axis=0)
    return [[round(float(a), 4), round(float(b), 5)] for a, b in zip(at, risk, strict=True)]
