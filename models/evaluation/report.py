"""The report on a model: its figures by name, and the table that prints them in plain words."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table

from models.evaluation.metrics import (
    Statistic,
    augrc,
    aurc,
    auroc,
    bootstrap_interval,
    calibration_error,
    columns,
    normalised_aurc,
    oracle_aurc,
    rank_correlation,
    rank_correlation_within,
    risk_at_coverage,
)


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
    s, y = columns(scores, losses)
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


def _main_figures(failure_level: float) -> dict[str, Statistic]:
    return {
        "rank_correlation": rank_correlation,
        "failure_auroc": lambda s, y: auroc(s, y > failure_level),
        "one_minus_naurc": lambda s, y: 1 - normalised_aurc(s, y),
        "risk_at_80_coverage": lambda s, y: risk_at_coverage(s, y, 0.8),
    }


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else float("nan")
