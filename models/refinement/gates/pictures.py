"""Draws what a candidate changes: the images with the largest changes of loss, and the curves of risk and coverage."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.contract.manifest import Task
from models.evaluation.metrics import risk_coverage
from models.refinement.gates.gain import JUDGING
from models.refinement.gates.material import TEST, Array, Looked, Material

SHOWN = 4  # images of each kind
INCHES = 1.9  # side of an image
LABEL, LIVE, CANDIDATE = "#2ca02c", "#3a86e0", "#d95f0e"
POINTS = 400  # of a curve


@dataclass(frozen=True, slots=True)
class Shown:
    """One image with what both versions make of it, in canvas units."""

    image: NDArray[np.uint8]  # [h, w, c]
    target: NDArray[np.float32]
    predictions: tuple[NDArray[np.float32], NDArray[np.float32]]  # live, candidate
    losses: tuple[float, float]


def pictures(material: Material) -> dict[str, bytes]:
    """PNG files by name: `better` and `worse` changes, and `risk-coverage`. Images without a change are not shown."""
    task, unit = material.manifest.task, material.manifest.loss.unit
    images = list(_changed(material))
    drawn = {
        "better.png": sorted((one for one in images if _change(one) < 0), key=_change)[:SHOWN],
        "worse.png": sorted((one for one in images if _change(one) > 0), key=_change, reverse=True)[:SHOWN],
    }
    found = {name: draw_changes(chosen, task, unit) for name, chosen in drawn.items() if chosen}
    return {name: _png(figure) for name, figure in (*found.items(), ("risk-coverage.png", _curves(material)))}


def draw_changes(chosen: Sequence[Shown], task: Task, unit: str) -> Figure:
    """One column for each image: live above, the candidate below. Labels are green."""
    figure = Figure(figsize=(INCHES * len(chosen), 2.25 * INCHES), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for column, one in zip(axes.T, chosen, strict=True):
        rows = zip(column, ("live", "candidate"), (LIVE, CANDIDATE), one.predictions, one.losses, strict=True)
        for axis, name, colour, prediction, loss in rows:
            axis.imshow(one.image.squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_title(f"{name}: {loss:.3g} {unit}", fontsize=7, color=colour)
            axis.set_axis_off()
            if task.kind == "keypoints":
                height, width = one.image.shape[:2]
                _draw_points(axis, one.target, task, LABEL)
                _draw_points(axis, prediction, task, colour)
                axis.set_xlim(-0.5, width - 0.5)
                axis.set_ylim(height - 0.5, -0.5)
    return figure


def draw_curves(curves: dict[str, tuple[Array, Array]], unit: str) -> Figure:
    """curves: scores and losses [n] by the name of a version -> the mean loss of the images that a share accepts."""
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    for (name, (scores, losses)), colour in zip(curves.items(), (LIVE, CANDIDATE), strict=True):
        coverage, risk = risk_coverage(scores, losses)
        rows = np.unique(np.linspace(0, coverage.size - 1, POINTS).astype(np.intp))
        axes.plot(coverage[rows], risk[rows], color=colour, label=name)
    axes.set(xlabel="share of images accepted", ylabel=f"mean loss ({unit})", xlim=(0, 1), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _changed(material: Material) -> Iterator[Shown]:
    folders = (material.inputs.live, material.inputs.candidate)
    sets: tuple[Looked, ...] = (*JUDGING, TEST)
    for name in sets:
        examples = material.examples(name)
        if not len(examples):
            continue
        preds = [material.outputs(folder, name)["prediction"] for folder in folders]
        losses = [material.losses(folder, name) for folder in folders]
        order = np.argsort(losses[1] - losses[0], kind="stable")
        for row in np.unique(np.concatenate((order[:SHOWN], order[-SHOWN:]))):
            both = (float(losses[0][row]), float(losses[1][row]))
            yield Shown(examples.images[row], examples.targets[row], (preds[0][row], preds[1][row]), both)


def _curves(material: Material) -> Figure:
    versions = {"live": material.inputs.live, "candidate": material.inputs.candidate}
    curves = {
        name: (material.column(folder, TEST, "score"), material.losses(folder, TEST))
        for name, folder in versions.items()
    }
    return draw_curves(curves, material.manifest.loss.unit)


def _change(one: Shown) -> float:
    return one.losses[1] - one.losses[0]


def _draw_points(axis: Axes, points: NDArray[np.float32], task: Task, colour: str) -> None:
    """Matplotlib has (0, 0) at the centre of the first pixel, not at its corner."""
    places = points - 0.5
    for limb in task.skeleton:
        axis.plot(*places[list(limb)].T, color=colour, linewidth=0.9)
    axis.plot(*places.T, ".", color=colour, markersize=3)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()
