"""Draws the paper's analysis: figures of `models.analysis.similar_pairs` in, a matplotlib figure out."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from models.analysis.gamma import (
    expected_learning_loss_gradient,
    expected_learning_loss_pp_gradient,
    expected_pair_target,
    similar_loss_probability,
)
from models.analysis.similar_pairs import TABLE_1, TABLE_2, Law, LossAnalysis, compare_pairs

Array = NDArray[np.float64]

POINTS = 201
LAW_COLOUR, OTHER_COLOUR, MARK_COLOUR = "#3182bd", "#e6550d", "#636363"


def draw_paper(law: Law) -> Figure:
    """Table 1, Table 2 and the expected gradients, each as a curve of delta under the law."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    alike, target, gradient = figure.subplots(1, 3)
    _alike(alike, np.linspace(0, 0.6, POINTS), law.k, law.theta)
    alike.plot(list(TABLE_1), list(TABLE_1.values()), "o", color=OTHER_COLOUR, label="Table 1 of the paper")
    _target(target, np.linspace(0, 0.6, POINTS), law.k, law.theta)
    target.plot(list(TABLE_2), list(TABLE_2.values()), "o", color=OTHER_COLOUR, label="Table 2 of the paper")
    _gradient(gradient, np.linspace(-0.6, 0.6, 2 * POINTS - 1), law.k, law.theta)
    return _with_legends(figure)


def draw_losses(losses: ArrayLike, found: LossAnalysis) -> Figure:
    """The losses [n] beside their fit, the share of alike pairs beside that of the law, and the expected gradients."""
    values = np.asarray(losses, np.float64)
    k, theta = found.fit.k, found.fit.theta
    figure = Figure(figsize=(13, 4), layout="constrained")
    histogram, alike, gradient = figure.subplots(1, 3)
    grid = np.linspace(0, float(np.quantile(values, 0.995)), POINTS)[1:]
    _histogram(histogram, values, grid, found)
    _alike(alike, grid, k, theta)
    shares = [_share_alike(values, float(delta)) for delta in grid]
    alike.plot(grid, shares, color=OTHER_COLOUR, linestyle="--", label="these losses")
    for value, name, style in ((found.delta, "alike", "-"), (found.margin, "margin", ":")):
        if value <= grid[-1]:
            alike.axvline(value, color=MARK_COLOUR, linewidth=1, linestyle=style, label=f"{name}: {value:.3g}")
    _gradient(gradient, np.concatenate([-grid[::-1], [0.0], grid]), k, theta)
    return _with_legends(figure)


def save(figure: Figure, path: Path) -> None:
    """Writes the figure in the format of the file's ending. Raises ValueError on an ending that is unknown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _alike(axes: Axes, delta: Array, k: float, theta: float) -> None:
    law = similar_loss_probability(delta, k, theta)
    axes.plot(delta, law, color=LAW_COLOUR, label=f"Gamma k = {k:.3g}, θ = {theta:.4g}")
    axes.set(title="Pairs of losses at most δ apart", xlabel="δ", ylabel="share of pairs", ylim=(0, 1))


def _target(axes: Axes, delta: Array, k: float, theta: float) -> None:
    axes.plot(delta, expected_pair_target(-delta, k, theta), color=LAW_COLOUR, label="LearningLoss++: expected $p_i$")
    axes.set(title="Expected share of the better loss", xlabel="δ = $l_j - l_i$", ylabel="$p_i$", ylim=(0, 0.55))


def _gradient(axes: Axes, delta: Array, k: float, theta: float) -> None:
    hinge = np.where(delta == 0, np.nan, expected_learning_loss_gradient(delta, 0.0))
    axes.plot(delta, hinge, color=OTHER_COLOUR, label="Learning Loss")
    soft = expected_learning_loss_pp_gradient(delta, 0.0, k, theta)
    axes.plot(delta, soft, color=LAW_COLOUR, label="LearningLoss++")
    axes.set(title="Expected gradient at equal scores", xlabel="δ = $l_i - l_j$", ylabel="by $s_i - s_j$")


def _histogram(axes: Axes, values: Array, grid: Array, found: LossAnalysis) -> None:
    axes.hist(values, bins=40, range=(0, grid[-1]), density=True, color="#d9d9d9", label=f"{values.size} losses")
    law = stats.gamma.pdf(grid, found.fit.k, scale=found.fit.theta)
    axes.plot(grid, law, color=LAW_COLOUR, label=f"Gamma fit, KS distance {found.fit.ks_distance:.3f}")
    axes.set(title="True losses", xlabel="loss", ylabel="density")


def _share_alike(values: Array, delta: float) -> float:
    counts = compare_pairs(values, delta, margin=1.0)
    return counts.similar / counts.pairs


def _with_legends(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
