"""The paper's analysis: beside the printed tables, and for a user's own losses. First figures, then a report.

Shukla & Ahmed (CVPR Workshops 2021) assume Gamma losses and tabulate how often two are alike (Table 1) and what
share of a pair's loss the better one is expected to have (Table 2), but not the law behind the tables:
`solve_law` finds it from Table 1. `compare_pairs` counts alike pairs, the subject of Table 1, in given losses.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq

from models.analysis.gamma import expected_pair_target, similar_loss_probability
from models.analysis.gamma_fit import GammaFit, fit_gamma

Array = NDArray[np.float64]

TABLE_1 = {0.02: 0.094, 0.04: 0.185, 0.06: 0.274, 0.08: 0.358, 0.1: 0.437, 0.125: 0.527, 0.15: 0.607}
TABLE_1_DECIMALS = 3
TABLE_2 = {0.0: 0.5, 0.1: 0.39, 0.2: 0.3, 0.3: 0.25, 0.4: 0.21, 0.5: 0.18}
TABLE_2_DECIMALS = 2
WHOLE_SHAPES = range(1, 9)
DELTA_PER_MEAN = 0.25


@dataclass(frozen=True, slots=True)
class Law:
    """Gamma(k, theta) for every theta from `theta_low` to `theta_high`: all of them print the same table."""

    k: int
    theta_low: float
    theta_high: float

    @property
    def theta(self) -> float:
        return (self.theta_low + self.theta_high) / 2


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Counts over all pairs of n losses: how many the hinge penalises although the scores are the true losses."""

    pairs: int
    similar: int  # losses at most delta apart
    penalised: int  # losses that differ, but by less than the margin
    needless: int  # both: penalised for two losses that are alike


@dataclass(frozen=True, slots=True)
class LossAnalysis:
    """The analysis of the losses of one model."""

    fit: GammaFit
    counts: PairCounts
    delta: float  # losses at most this far apart are alike
    margin: float  # of the hinge, in the unit of the losses


def solve_law(
    probabilities: Mapping[float, float], decimals: int = TABLE_1_DECIMALS, shapes: Iterable[int] = WHOLE_SHAPES
) -> list[Law]:
    """Every whole shape with a scale for which P(|X - Y| <= delta) rounds to all of `probabilities` (delta -> P).

    P falls as theta grows, so every row allows an interval of scales; a shape stays when they overlap.
    Raises ValueError on an empty table and on probabilities that do not round into (0, 1).
    """
    half = 0.5 * 10.0**-decimals
    if not probabilities or not all(delta > 0 and half < p < 1 - half for delta, p in probabilities.items()):
        raise ValueError("a table to solve needs rows of delta > 0 with probabilities between 0 and 1")
    laws = [_overlap(k, probabilities, half) for k in shapes]
    return [law for law in laws if law.theta_low < law.theta_high]


def analyse_losses(losses: ArrayLike, margin: float = 1.0, delta: float | None = None) -> LossAnalysis:
    """Fit and pair counts of losses [n] > 0; delta is a quarter of their mean unless given.

    Raises ValueError as `fit_gamma` and `compare_pairs` do.
    """
    fit = fit_gamma(losses)
    apart = DELTA_PER_MEAN * fit.k * fit.theta if delta is None else delta
    return LossAnalysis(fit, compare_pairs(losses, apart, margin), apart, margin)


def compare_pairs(losses: ArrayLike, delta: float, margin: float) -> PairCounts:
    """Counts over all pairs of losses [n], in O(n log n).

    A head whose scores equal the losses still pays for each pair less than `margin` apart. Raises
    ValueError when losses are not one finite column of at least two, delta < 0, or margin <= 0.
    """
    values = np.sort(np.asarray(losses, np.float64))
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():  # noqa: PLR2004 - a pair
        raise ValueError("losses must be one column of at least two finite numbers")
    if not delta >= 0 or not margin > 0:
        raise ValueError(f"delta must not be negative and margin must be positive, not {delta} and {margin}")
    tied = _closer(values, 0.0, "right")
    similar = _closer(values, delta, "right")
    penalised = max(_closer(values, margin, "left"), tied)  # a margin may drown in the last bit of the losses
    return PairCounts(
        pairs=values.size * (values.size - 1) // 2,
        similar=similar,
        penalised=penalised - tied,
        needless=min(similar, penalised) - tied,
    )


def read_losses(path: Path) -> Array:
    """Losses [n] from a .npy file, or from text with one number a line. Raises ValueError naming the file and line."""
    if path.suffix == ".npy":
        try:
            return np.asarray(np.load(path, allow_pickle=False), np.float64).reshape(-1)
        except (ValueError, TypeError, EOFError) as error:
            raise ValueError(f"{path} is not a .npy file of numbers: {error}") from error
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: give one number a line, or a .npy file") from error
    return np.array([_number(path, i, line) for i, line in enumerate(lines, 1) if line.strip()], np.float64)


def print_paper(law: Law, console: Console) -> None:
    """Both tables of the paper beside what the law gives, in the digits that the paper prints."""
    low, high = math.ceil(law.theta_low * 1e7) / 1e7, math.floor(law.theta_high * 1e7) / 1e7  # both still inside
    console.print(f"Table 1 comes from Gamma losses with k = {law.k}, theta = {low:.7f} to {high:.7f}", soft_wrap=True)
    first = similar_loss_probability(list(TABLE_1), law.k, law.theta)
    _print_table("Table 1: chance that two losses are at most delta apart", TABLE_1, first, TABLE_1_DECIMALS, console)
    second = expected_pair_target(-np.array(list(TABLE_2)), law.k, law.theta)
    _print_table(
        "Table 2: expected share p_i of the better loss, delta below the other",
        TABLE_2,
        second,
        TABLE_2_DECIMALS,
        console,
    )


def print_losses(found: LossAnalysis, console: Console) -> None:
    """The fitted law, how good it is, and how many pairs the hinge penalises needlessly."""
    fit, counts = found.fit, found.counts
    law = float(similar_loss_probability(found.delta, fit.k, fit.theta))
    console.print(
        f"{fit.n} losses: Gamma k = {fit.k:.4g}, theta = {fit.theta:.4g} (mean {fit.k * fit.theta:.4g}); "
        f"KS distance {fit.ks_distance:.3f}, p = {fit.p_value:.3f}",
        soft_wrap=True,
    )
    table = Table("pairs", title=f"delta {found.delta:.4g}, margin {found.margin:.4g}")
    for column in ("number", "share"):
        table.add_column(column, justify="right")
    for title, number in (
        ("all", counts.pairs),
        ("alike: true losses at most delta apart", counts.similar),
        ("penalised by the hinge, scores being the true losses", counts.penalised),
        ("penalised needlessly: both of these", counts.needless),
    ):
        table.add_row(title, f"{number}", f"{number / counts.pairs:.3f}")
    console.print(table)
    console.print(f"Under the fitted law {law:.3f} of the pairs are alike.")


def _overlap(k: int, probabilities: Mapping[float, float], half: float) -> Law:
    low = max(delta / _separation(k, p + half) for delta, p in probabilities.items())
    high = min(delta / _separation(k, p - half) for delta, p in probabilities.items())
    return Law(k, low, high)


def _separation(k: int, probability: float) -> float:
    """The delta, in units of theta, at which P is `probability`."""
    high = 1.0
    while similar_loss_probability(high, k, 1.0) < probability:
        high *= 2
    return float(brentq(lambda x: float(similar_loss_probability(x, k, 1.0)) - probability, 0.0, high, xtol=1e-14))


def _closer(ordered: Array, distance: float, side: Literal["left", "right"]) -> int:
    """Pairs at most (right) or less than (left) `distance` apart."""
    return int(np.searchsorted(ordered, ordered + distance, side).sum()) - ordered.size * (ordered.size + 1) // 2


def _number(path: Path, line_number: int, line: str) -> float:
    try:
        return float(line)
    except ValueError:
        raise ValueError(f"{path}, line {line_number}: {line.strip()[:40]!r} is not a number") from None


def _print_table(title: str, printed: Mapping[float, float], found: Array, decimals: int, console: Console) -> None:
    table = Table(title=title)
    for column in ("delta", "paper", "here", "not rounded"):
        table.add_column(column, justify="right")
    for (delta, paper), value in zip(printed.items(), found, strict=True):
        table.add_row(f"{delta:g}", f"{paper:.{decimals}f}", f"{value:.{decimals}f}", f"{value:.6f}")
    console.print(table)
