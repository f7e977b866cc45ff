"""A picture of the predictions that deserve most and least trust, with true and predicted corners."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from PIL import Image

COLUMNS = 10
TRUE_COLOUR, PREDICTED_COLOUR = "#2ca25f", "#e6550d"


@dataclass(frozen=True, slots=True)
class Answer:
    """One posted canvas with its reply."""

    image: NDArray[np.uint8]  # [h, w, 1]
    kind: str  # "clean", or the corruption
    truth: NDArray[np.float64]  # [4, 2], in pixels
    predicted: NDArray[np.float64]  # [4, 2], in pixels
    true_loss: float
    predicted_loss: float
    ood_score: float
    lossy: bool
    sample_id: str


def draw(answers: Sequence[Answer], path: Path) -> None:
    """answers: at least 20, the lowest predicted loss first. Writes a PNG of the first and the last ten."""
    figure = Figure(figsize=(2 * COLUMNS, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False).ravel()
    _row(top, "The ten most trusted: lowest predicted loss", answers[:COLUMNS])
    _row(bottom, "The ten least trusted: highest predicted loss", answers[: -COLUMNS - 1 : -1])
    handles, labels = top.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Reduces the picture to 64 colours: enough for greys and two hues, and less than half the bytes."""
    file = io.BytesIO()
    figure.savefig(file, dpi=72)
    Image.open(file).convert("RGB").quantize(64).save(path, optimize=True)


def _row(figure: SubFigure, title: str, answers: Sequence[Answer]) -> None:
    figure.suptitle(title, x=0.005, ha="left", fontsize=14, fontweight="bold")
    for axes, answer in zip(np.ravel(figure.subplots(1, COLUMNS)), answers, strict=True):
        _panel(axes, answer)


def _panel(axes: Axes, answer: Answer) -> None:
    outline(axes, answer.image, answer.truth, answer.predicted)
    axes.set_title(
        f"predicted {answer.predicted_loss:.1f} px\ntrue {answer.true_loss:.1f} px\n{answer.kind.replace('_', ' ')}",
        fontsize=10,
    )


def outline(axes: Axes, image: NDArray[np.uint8], truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> None:
    """image: [h, w, 1]; truth, predicted: corners [4, 2] in pixels."""
    height, width = image.shape[:2]
    # Continuous pixels: (0, 0) is the outer corner of the first pixel.
    axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    for corners, colour, style, label in (
        (truth, TRUE_COLOUR, "-", "true"),
        (predicted, PREDICTED_COLOUR, "--", "predicted"),
    ):
        x, y = np.vstack([corners, corners[:1]]).T
        axes.plot(x, y, style, color=colour, linewidth=2, label=label, clip_on=False)
        axes.plot(*corners[0], "o", color=colour, markersize=5, clip_on=False)  # the top left corner
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
