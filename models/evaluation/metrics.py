"""Figures of how well scores tell large losses from small ones.

Arrays in, figures out. Scores are higher for worse inputs, and only their order matters. For tied scores each figure is
its expectation over a random order of the ties. A figure that is undefined (no spread, one class) is NaN.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

REDRAWS = 200
CALIBRATION_BINS = 10

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array], float]  # (scores [n], losses [n]) -> figure


def risk_coverage(scores: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    """Coverage [n] = k/n and risk [n], the mean loss of the k lowest scores (Geifman & El-Yaniv 2017)."""
    s, y = columns(scores, losses)
    k = np.arange(1, s.size + 1)
    return k / s.size, _expected_losses(s, y).cumsum() / k


def aurc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean risk over all n coverages (Geifman et al. 2019)."""
    return float(risk_coverage(scores, losses)[1].mean())


def augrc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Area under the generalised risk, loss of the accepted over all n (Traub et al. 2024)."""
    coverage, risk = risk_coverage(scores, losses)
    return float((coverage * risk).mean())


def oracle_aurc(losses: ArrayLike) -> float:
    """The least AURC there is: scores that are the losses. The other end, random order, is the mean loss."""
    return aurc(losses, losses)


def normalised_aurc(scores: ArrayLike, losses: ArrayLike) -> float:
    """AURC from 0 (oracle) to 1 (random order); worse than random is above 1. NaN for equal losses.

    The excess of Geifman et al. 2019 (E-AURC), divided by that of a random order.
    """
    best, random = oracle_aurc(losses), aurc(np.zeros(np.shape(losses)), losses)
    spread = random - best
    return (aurc(scores, losses) - best) / spread if spread > 1e-12 * random else float("nan")


def risk_at_coverage(scores: ArrayLike, losses: ArrayLike, coverage: float) -> float:
    """Mean loss of the ceil(coverage * n) lowest scores. Raises ValueError on coverage outside (0, 1]."""
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1], not at {coverage}")
    coverages, risk = risk_coverage(scores, losses)
    return float(risk[np.searchsorted(coverages, coverage - 1e-12)])


def rank_correlation(scores: ArrayLike, losses: ArrayLike) -> float:
    """Spearman's correlation, ties at their mean rank. NaN when either side is constant."""
    ranks = np.stack([rankdata(values) for values in columns(scores, losses)])
    ranks -= ranks.mean(1, keepdims=True)
    spread = float(np.prod(np.linalg.norm(ranks, axis=1)))
    return float(ranks[0] @ ranks[1]) / spread if spread > 0 else float("nan")


def rank_correlation_within(scores: ArrayLike, losses: ArrayLike, strata: ArrayLike) -> float:
    """Mean over strata of their rank correlation, weighted by size less one; undefined ones are left out."""
    s, y = columns(scores, losses)
    members = [np.asarray(strata) == stratum for stratum in np.unique(strata)]
    found = [(m.sum() - 1, rank_correlation(s[m], y[m])) for m in members]
    weights, values = np.array([(w, r) for w, r in found if np.isfinite(r)]).reshape(-1, 2).T
    return float(np.average(values, weights=weights)) if values.size else float("nan")


def auroc(scores: ArrayLike, failures: ArrayLike) -> float:
    """Probability that a failure scores above a success, ties as half (Hanley & McNeil 1982); NaN for one class."""
    failed = np.asarray(failures, bool)
    s, _ = columns(scores, failed)
    positives, negatives = int(failed.sum()), int((~failed).sum())
    if not positives or not negatives:
        return float("nan")
    return float(rankdata(s)[failed].sum() / positives - (positives + 1) / 2) / negatives


def calibration_error(predicted_loss: ArrayLike, losses: ArrayLike) -> float:
    """Mean distance of predicted from true mean loss, over ten bins of equal mass (ECE of regression)."""
    p, y = columns(predicted_loss, losses)
    errors = np.array_split(np.sort(p) - _expected_losses(p, y), CALIBRATION_BINS)
    return float(sum(abs(error.sum()) for error in errors) / p.size)


def false_positive_rate(scores: ArrayLike, failures: ArrayLike, recall: float = 0.95) -> float:
    """Share of successes above the threshold that catches `recall` of the failures; NaN for one class."""
    failed = np.asarray(failures, bool)
    s, _ = columns(scores, failed)
    if failed.all() or not failed.any():
        return float("nan")
    caught = np.sort(s[failed])[::-1][int(np.ceil(recall * failed.sum())) - 1]
    return float((s[~failed] >= caught).mean())


def recall_and_precision(scores: ArrayLike, failures: ArrayLike, budget: float) -> tuple[float, float]:
    """Of the failures the share, and among them the share of failures, when `budget` of the inputs are looked at."""
    s, failed = columns(scores, np.asarray(failures, bool))
    looked = max(1, round(budget * s.size))
    found = float(_expected_losses(-s, failed)[:looked].sum())
    return found / failed.sum() if failed.any() else float("nan"), found / looked


def share_of_oracle_cut(scores: ArrayLike, losses: ArrayLike, coverage: float = 0.8) -> float:
    """How much setting aside the highest scores lowers the mean loss, over how much the oracle lowers it."""
    _, y = columns(scores, losses)
    cut = y.mean() - np.array([risk_at_coverage(one, y, coverage) for one in (scores, y)])
    return float(cut[0] / cut[1]) if cut[1] > 0 else float("nan")


def decile_errors(predicted_loss: ArrayLike, losses: ArrayLike) -> Array:
    """By tenths of the predicted loss: the mean prediction over the mean loss, less one; at most ten numbers."""
    p, y = columns(predicted_loss, losses)
    order = np.argsort(p, kind="stable")
    pairs = ((p[rows].mean(), y[rows].mean()) for rows in np.array_split(order, min(CALIBRATION_BINS, y.size)))
    return np.array([said / true - 1 if true > 0 else np.nan for said, true in pairs])


def bootstrap_interval(
    statistic: Statistic, scores: ArrayLike, losses: ArrayLike, sources: ArrayLike, redraws: int = REDRAWS
) -> tuple[float, float]:
    """95 % percentile interval under redrawing whole sources, as views of one source are not independent."""
    s, y = columns(scores, losses)
    ids = np.asarray(sources)
    members = [np.flatnonzero(ids == source) for source in np.unique(ids)]
    rng = np.random.default_rng(0)
    rows = [np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]) for _ in range(redraws)]
    figures = np.array([statistic(s[row], y[row]) for row in rows])
    defined = figures[np.isfinite(figures)]
    low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (np.nan, np.nan)
    return float(low), float(high)


def _expected_losses(s: Array, y: Array) -> Array:
    """Losses in order of their scores, each tied one replaced by the mean of its ties."""
    _, tie, counts = np.unique(s, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(tie, y) / counts, counts)


def columns(scores: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    s, y = np.asarray(scores, np.float64), np.asarray(losses, np.float64)
    if s.ndim != 1 or s.shape != y.shape or not s.size:
        raise ValueError(
            f"scores and losses must be columns of the same length: got shapes {list(s.shape)} and {list(y.shape)}"
        )
    if not (np.isfinite(s).all() and np.isfinite(y).all()):
        raise ValueError("scores and losses must be finite")
    return s, y
