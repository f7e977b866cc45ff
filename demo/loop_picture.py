"""The picture of the loop: the losses over time with what happened, and the same canvases before and after."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from demo.picture import PREDICTED_COLOUR, TRUE_COLOUR, outline, save
from demo.traffic import Posted

WINDOW = 200  # canvases in a running mean
LEVELS = (0.97, 0.9, 0.83)  # of the names of moments, as shares of the height


class Moment(NamedTuple):
    """Something that happened, after `canvases` had been posted."""

    canvases: int
    name: str


class Compared(NamedTuple):
    """A canvas and what a version says about it."""

    image: NDArray[np.uint8]  # [h, w, 1]
    truth: NDArray[np.float32]  # [4, 2] in pixels
    predicted: NDArray[np.float32]  # [4, 2] in pixels
    predicted_loss: float


def draw(
    posted: Sequence[Posted], moments: Sequence[Moment], pairs: Sequence[tuple[Compared, Compared]], path: Path
) -> None:
    """posted: at least `WINDOW`, in order of time; pairs: before and after. Writes a PNG."""
    figure = Figure(figsize=(14, 9), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.1, 1)).ravel()
    _losses(top.subplots(), posted, moments)
    _canvases(bottom, pairs)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def _losses(axes: Axes, posted: Sequence[Posted], moments: Sequence[Moment]) -> None:
    for name, losses, colour in (
        ("predicted loss, which the service knows", [one.predicted_loss for one in posted], PREDICTED_COLOUR),
        ("true loss, which only a demonstration knows", [one.true_loss for one in posted], TRUE_COLOUR),
    ):
        means = running_mean(np.array(losses))
        axes.plot(np.arange(WINDOW, WINDOW + means.size), means, color=colour, linewidth=2, label=name)
    axes.set_xlim(0, len(posted))
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    for moment, level in zip(moments, cycle(LEVELS), strict=False):
        axes.axvline(moment.canvases, color="#555555", linewidth=1, linestyle=":")
        is_late = moment.canvases > 0.85 * len(posted)
        axes.text(
            moment.canvases,
            level * axes.get_ylim()[1],
            f" {moment.name} ",
            va="center",
            ha="right" if is_late else "left",
            fontsize=10,
        )
    axes.set(xlabel="canvases posted", ylabel="loss, px", title=f"Mean loss of the last {WINDOW} canvases")
    axes.legend(loc="lower right", frameon=False)


def running_mean(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """values: [n] -> [n - WINDOW + 1]."""
    return np.convolve(values, np.full(WINDOW, 1 / WINDOW), mode="valid")


def _canvases(figure: SubFigure, pairs: Sequence[tuple[Compared, Compared]]) -> None:
    figure.suptitle("The same canvases before (above) and after (below); nothing has learned from their digits")
    grid = figure.subplots(2, len(pairs), squeeze=False)
    for column, pair in zip(grid.T, pairs, strict=True):
        for axes, one in zip(column, pair, strict=True):
            outline(axes, one.image, one.truth, one.predicted)
            error = float(np.linalg.norm(one.predicted - one.truth, axis=1).mean())
            axes.set_title(f"predicted {one.predicted_loss:.1f} px, true {error:.1f} px", fontsize=10)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
