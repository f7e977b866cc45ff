"""How well scores tell large losses from small ones: risk-coverage figures, the report, and its source, a bundle.

Arrays in, figures out. Scores are higher for worse inputs and only their order matters; tied scores are
handled as the expectation over their random order. A figure that is undefined (no spread, one class) is
NaN, and the report leaves it out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from models.contract.bundle import BundleError, read_manifest, read_onnx
from models.contract.manifest import Manifest
from models.contract.runtime import open_session
from models.tasks.protocol import Examples, RegressionTask

TEST_SEED = 0  # fixed, so that figures of different bundles compare
BATCH = 64
REDRAWS = 200
CALIBRATION_BINS = 10

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array], float]  # (scores [n], losses [n]) -> figure


def risk_coverage(scores: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    """Coverage [n] = k/n and risk [n], the mean loss of the k lowest scores (Geifman & El-Yaniv 2017)."""
    s, y = _pair(scores, losses)
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
    ranks = np.stack([rankdata(values) for values in _pair(scores, losses)])
    ranks -= ranks.mean(1, keepdims=True)
    spread = float(np.prod(np.linalg.norm(ranks, axis=1)))
    return float(ranks[0] @ ranks[1]) / spread if spread > 0 else float("nan")


def rank_correlation_within(scores: ArrayLike, losses: ArrayLike, strata: ArrayLike) -> float:
    """Mean over strata of their rank correlation, weighted by size less one; undefined ones are left out."""
    s, y = _pair(scores, losses)
    members = [np.asarray(strata) == stratum for stratum in np.unique(strata)]
    found = [(m.sum() - 1, rank_correlation(s[m], y[m])) for m in members]
    weights, values = np.array([(w, r) for w, r in found if np.isfinite(r)]).reshape(-1, 2).T
    return float(np.average(values, weights=weights)) if values.size else float("nan")


def auroc(scores: ArrayLike, failures: ArrayLike) -> float:
    """Probability that a failure scores above a success, ties as half (Hanley & McNeil 1982); NaN for one class."""
    failed = np.asarray(failures, bool)
    s, _ = _pair(scores, failed)
    positives, negatives = int(failed.sum()), int((~failed).sum())
    if not positives or not negatives:
        return float("nan")
    return float(rankdata(s)[failed].sum() / positives - (positives + 1) / 2) / negatives


def calibration_error(predicted_loss: ArrayLike, losses: ArrayLike) -> float:
    """Mean distance of predicted from true mean loss, over ten bins of equal mass (ECE of regression)."""
    p, y = _pair(predicted_loss, losses)
    errors = np.array_split(np.sort(p) - _expected_losses(p, y), CALIBRATION_BINS)
    return float(sum(abs(error.sum()) for error in errors) / p.size)


def false_positive_rate(scores: ArrayLike, failures: ArrayLike, recall: float = 0.95) -> float:
    """Share of successes above the threshold that catches `recall` of the failures; NaN for one class."""
    failed = np.asarray(failures, bool)
    s, _ = _pair(scores, failed)
    if failed.all() or not failed.any():
        return float("nan")
    caught = np.sort(s[failed])[::-1][int(np.ceil(recall * failed.sum())) - 1]
    return float((s[~failed] >= caught).mean())


def recall_and_precision(scores: ArrayLike, failures: ArrayLike, budget: float) -> tuple[float, float]:
    """Of the failures the share, and among them the share of failures, when `budget` of the inputs are looked at."""
    s, failed = _pair(scores, np.asarray(failures, bool))
    looked = max(1, round(budget * s.size))
    found = float(_expected_losses(-s, failed)[:looked].sum())
    return found / failed.sum() if failed.any() else float("nan"), found / looked


def share_of_oracle_cut(scores: ArrayLike, losses: ArrayLike, coverage: float = 0.8) -> float:
    """How much setting aside the highest scores lowers the mean loss, over how much the oracle lowers it."""
    _, y = _pair(scores, losses)
    cut = y.mean() - np.array([risk_at_coverage(one, y, coverage) for one in (scores, y)])
    return float(cut[0] / cut[1]) if cut[1] > 0 else float("nan")


def decile_errors(predicted_loss: ArrayLike, losses: ArrayLike) -> Array:
    """By tenths of the predicted loss: the mean prediction over the mean loss, less one; at most ten numbers."""
    p, y = _pair(predicted_loss, losses)
    order = np.argsort(p, kind="stable")
    pairs = ((p[rows].mean(), y[rows].mean()) for rows in np.array_split(order, min(CALIBRATION_BINS, y.size)))
    return np.array([said / true - 1 if true > 0 else np.nan for said, true in pairs])


def bootstrap_interval(
    statistic: Statistic, scores: ArrayLike, losses: ArrayLike, sources: ArrayLike, redraws: int = REDRAWS
) -> tuple[float, float]:
    """95 % percentile interval under redrawing whole sources, as views of one source are not independent."""
    s, y = _pair(scores, losses)
    ids = np.asarray(sources)
    members = [np.flatnonzero(ids == source) for source in np.unique(ids)]
    rng = np.random.default_rng(0)
    rows = [np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]) for _ in range(redraws)]
    figures = np.array([statistic(s[row], y[row]) for row in rows])
    defined = figures[np.isfinite(figures)]
    low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (np.nan, np.nan)
    return float(low), float(high)


def report(  # noqa: PLR0913, PLR0917 - one column of the same table each
    scores: ArrayLike,
    losses: ArrayLike,
    strata: ArrayLike,
    failure_level: float,
    predicted_loss: ArrayLike,
    flagged: ArrayLike,
    sources: ArrayLike | None = None,
) -> dict[str, float]:
    """Every figure of `EXPLANATIONS` that is defined, by its key; all columns are [n].

    With `sources`, the main figures come with `<key>_low` and `<key>_high`, a 95 % bootstrap interval.
    """
    s, y = _pair(scores, losses)
    flags = np.asarray(flagged, bool)
    failed = y > failure_level
    main = _main_figures(failure_level)
    figures = {
        "examples": float(y.size),
        "mean_loss": float(y.mean()),
        "failure_rate": float(failed.mean()),
        **{key: statistic(s, y) for key, statistic in main.items()},
        "rank_correlation_within_strata": rank_correlation_within(s, y, strata),
        "aurc_oracle": oracle_aurc(y),
        "aurc": aurc(s, y),
        "augrc": augrc(s, y),
        "mean_predicted_loss": _mean(np.asarray(predicted_loss, np.float64)),
        "calibration_error": calibration_error(predicted_loss, y),
        "flagged": float(flags.mean()),
        "mean_loss_flagged": _mean(y[flags]),
        "mean_loss_not_flagged": _mean(y[~flags]),
        "failures_flagged": _mean(flags[failed]),
    }
    if sources is not None:
        for key, statistic in main.items():
            figures[f"{key}_low"], figures[f"{key}_high"] = bootstrap_interval(statistic, s, y, sources)
    return {key: value for key, value in figures.items() if np.isfinite(value)}


# key -> (title, meaning in plain words), in the order in which they are read
EXPLANATIONS = {
    "examples": ("examples", "test examples"),
    "mean_loss": ("mean loss", "task error: what a prediction is off by on average; the AURC of a random order"),
    "failure_rate": ("failure rate", "share of predictions with a loss above the failure level"),
    "rank_correlation": ("rank correlation", "Spearman, score against true loss: 1 is the right order, 0 is none"),
    "rank_correlation_within_strata": ("  within each group", "the same, so that naming the group does not help"),
    "failure_auroc": ("AUROC of failures", "chance that a failure scores above a success: .5 is guessing"),
    "aurc_oracle": ("AURC of the oracle", "the least AURC there is, by knowing the losses"),
    "aurc": ("AURC", "mean loss of what is kept, over all shares kept: lower is better"),
    "one_minus_naurc": ("1 - nAURC", "share of the way from a random order (0) to the oracle (1)"),
    "augrc": ("AUGRC", "mean loss that slips through, over all shares kept: lower is better"),
    "risk_at_80_coverage": ("risk at 80 % coverage", "mean loss when the 20 % with the highest scores are set aside"),
    "mean_predicted_loss": ("mean predicted loss", "what the model says it is off by on average"),
    "calibration_error": ("calibration error", "how far predicted loss is from true loss, over ten bins"),
    "flagged": ("flagged", "share of test examples flagged by the verdict that ships"),
    "mean_loss_flagged": ("mean loss of flagged", "mean true loss of what was flagged"),
    "mean_loss_not_flagged": (
        "mean loss of others",
        "mean true loss of what was not flagged",
    ),
    "failures_flagged": ("failures flagged", "share of the failures that are flagged"),
}


def print_report(figures: dict[str, float], title: str, console: Console | None = None) -> None:
    """A table with one row for each figure of `EXPLANATIONS` that is there, with its interval if it has one."""
    table = Table("figure", title=title)
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("in plain words")
    for key, (name, meaning) in EXPLANATIONS.items():
        if key not in figures:
            continue
        interval = f"{figures[f'{key}_low']:.3f} to {figures[f'{key}_high']:.3f}" if f"{key}_low" in figures else ""
        value = f"{figures[key]:.0f}" if key == "examples" else f"{figures[key]:.3f}"
        table.add_row(name, value, interval, meaning)
    (console or Console()).print(table)


def evaluate_bundle(folder: Path, task: RegressionTask) -> dict[str, float]:
    """The report of the version in `folder` on the task's test split, from its ONNX alone.

    Raises BundleError when the bundle is damaged or was made for another task.
    """
    test = _test(task)
    manifest, outputs = run_bundle(folder, task, test)
    point = manifest.operating_points[manifest.default_operating_point]
    flags = point.flags(outputs["score"].astype(np.float64), outputs["ood_score"].astype(np.float64))
    return report(
        outputs["score"],
        task.true_loss(outputs["prediction"], test.targets),
        test.stratum,
        manifest.loss.failure_level,
        outputs["predicted_loss"],
        np.logical_or.reduce(list(flags.values())),
        test.source,
    )


def true_losses(folder: Path, task: RegressionTask) -> Array:
    """What the version in `folder` is off by on every example of the test split, [n]; raises as `evaluate_bundle`."""
    test = _test(task)
    _, outputs = run_bundle(folder, task, test)
    return task.true_loss(outputs["prediction"], test.targets)


def run_bundle(
    folder: Path, task: RegressionTask, examples: Examples
) -> tuple[Manifest, dict[str, NDArray[np.float32]]]:
    """The manifest of the version in `folder`, and what its ONNX says to examples of the task; raises as above."""
    manifest = read_manifest(folder)
    if manifest.task != task.task or manifest.preprocessing != task.preprocessing:
        raise BundleError(
            f"{folder} was made for another task than this {task.task.name!r}: points, units or canvas differ; "
            "evaluate it on its own task, or train it again"
        )
    return manifest, _run(read_onnx(folder, manifest), examples)


def _test(task: RegressionTask) -> Examples:
    return task.examples("test", views=task.test_views, seed=TEST_SEED)


def _run(onnx: bytes, examples: Examples) -> dict[str, NDArray[np.float32]]:
    session = open_session(onnx)
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(names, {"image": batch}) for batch in _batches(examples.images)]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))


def _main_figures(failure_level: float) -> dict[str, Statistic]:
    return {
        "rank_correlation": rank_correlation,
        "failure_auroc": lambda s, y: auroc(s, y > failure_level),
        "one_minus_naurc": lambda s, y: 1 - normalised_aurc(s, y),
        "risk_at_80_coverage": lambda s, y: risk_at_coverage(s, y, 0.8),
    }


def _expected_losses(s: Array, y: Array) -> Array:
    """Losses in order of their scores, each tied one replaced by the mean of its ties."""
    _, tie, counts = np.unique(s, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(tie, y) / counts, counts)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _pair(scores: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    s, y = np.asarray(scores, np.float64), np.asarray(losses, np.float64)
    if s.ndim != 1 or s.shape != y.shape or not s.size:
        raise ValueError(
            f"scores and losses must be columns of the same length: got shapes {list(s.shape)} and {list(y.shape)}"
        )
    if not (np.isfinite(s).all() and np.isfinite(y).all()):
        raise ValueError("scores and losses must be finite")
    return s, y
