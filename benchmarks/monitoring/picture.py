"""Draws the panels of a dashboard, with the answers of a real Prometheus to their queries.

It needs no Grafana: layout, queries, legends and units come from the dashboard's JSON. Colours and fonts differ from
Grafana's.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from benchmarks.monitoring.servers import Prometheus

GRID_WIDTH = 24
UNIT_IN = 0.62, 0.31  # width and height of a cell of the grid, in inches
MARGIN = 0.42, 0.62  # left of a panel, for its labels, in inches: of most kinds, of those with names
ROW_COLOR, FRAME = "#334155", "#cbd5e1"
FONT = 7.5
MAX_LEGEND = 8
COLORS = 96
MAX_ROWS = 6  # of a table

Series = tuple[str, NDArray[np.float64], NDArray[np.float64]]  # legend, unix seconds [n], values [n]


@dataclass(frozen=True, slots=True)
class Span:
    start: float  # unix seconds
    end: float
    step_s: float
    choices: Mapping[str, str]  # values of the dashboard's variables


def draw(board: Mapping[str, Any], prometheus: Prometheus, span: Span, path: Path) -> None:
    """Writes a PNG of all panels."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width_in, height_in = GRID_WIDTH * UNIT_IN[0], height * UNIT_IN[1] + 0.4
    figure = Figure((width_in, height_in), facecolor="white")
    figure.text(0.01, 1 - 0.1 / height_in, board["title"], va="top", fontsize=13, weight="bold", color=ROW_COLOR)
    for panel in board["panels"]:
        axes = _place(figure, panel["gridPos"], panel["type"], (width_in, height_in))
        title = _chosen(panel["title"], span)
        if panel["type"] == "row":
            axes.text(0, 0.4, title, fontsize=10, weight="bold", color=ROW_COLOR, va="center")
            axes.axhline(0.05, color=FRAME, lw=1)
            axes.set_axis_off()
            continue
        axes.set_title(title, fontsize=FONT + 1, loc="left", color=ROW_COLOR)
        axes.tick_params(labelsize=FONT - 1, color=FRAME)
        for spine in axes.spines.values():
            spine.set_color(FRAME)
        DRAWN[panel["type"]](axes, panel, _data(panel, prometheus, span), span)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    Image.open(drawn).quantize(COLORS).save(path, optimize=True)  # a third of the bytes


def _lines(axes: Axes, panel: Mapping[str, Any], series: Sequence[Series], span: Span) -> None:
    if not series:  # as when nothing waits
        axes.text(
            0.5, 0.5, "No data", transform=axes.transAxes, ha="center", va="center", fontsize=FONT, color="#777777"
        )
        _timed(axes, span)
        return
    style = panel["fieldConfig"]["defaults"]
    special = {one["matcher"]["options"]: _properties(one) for one in panel["fieldConfig"]["overrides"]}
    by_name = {name: values for name, _, values in series}
    if style["custom"].get("stacking", {}).get("mode") == "normal":
        axes.stackplot(
            _time(series[0][1]), [np.nan_to_num(values) for *_, values in series], labels=list(by_name), alpha=0.7
        )
    else:
        for name, times, values in series:
            own = special.get(name, {})
            line = "--" if "custom.lineStyle" in own else "-"
            width = own.get("custom.lineWidth", 1.2)
            drawn = axes.plot(_time(times), values, line, lw=width, label=name if width else None)
            if below := own.get("custom.fillBelowTo"):
                axes.fill_between(
                    _time(times), by_name[below], values, alpha=0.2, color=drawn[0].get_color(), lw=0, label="interval"
                )
    _timed(axes, span)
    values = np.concatenate([values for *_, values in series])
    floor = style["custom"].get("axisSoftMin", np.inf)
    _scaled(axes, style["unit"], (min(floor, np.nanmin(values)), np.nanmax(values)), style.get("max"))
    if any(name for name in by_name):
        axes.legend(
            *(part[:MAX_LEGEND] for part in axes.get_legend_handles_labels()), fontsize=FONT - 1.5, frameon=False,
            loc="upper left", ncols=2, handlelength=1.2, columnspacing=0.8,
        )  # fmt: skip


def _number(axes: Axes, panel: Mapping[str, Any], series: Sequence[Series], span: Span) -> None:
    _, times, values = series[0]
    known = values[np.isfinite(values)]
    axes.fill_between(_time(times), values, alpha=0.25, color="#16a34a", lw=0)
    axes.text(
        0.5, 0.55, _written(known[-1], panel["fieldConfig"]["defaults"]["unit"]), transform=axes.transAxes, ha="center",
        va="center", fontsize=15, weight="bold", color="#166534",
    )  # fmt: skip
    axes.set_ylim(min(0, known.min()), 2 * max(known.max(), 1e-9))
    axes.set_xlim(*_time(np.array([span.start, span.end])))
    axes.set_xticks([])
    axes.set_yticks([])


def _cells(axes: Axes, _: Mapping[str, Any], series: Sequence[Series], span: Span) -> None:
    ordered = sorted(series, key=lambda one: float(one[0]))
    below = np.nan_to_num(np.array([values for *_, values in ordered]))
    counts = np.diff(below, axis=0, prepend=0).clip(0)
    axes.pcolormesh(_time(ordered[0][1]), np.arange(len(ordered)), counts, cmap="Oranges", shading="nearest")
    axes.set_yticks(range(len(ordered)), [name for name, *_ in ordered])
    _timed(axes, span)


def _states(axes: Axes, panel: Mapping[str, Any], series: Sequence[Series], span: Span) -> None:
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    for row, (_, times, values) in enumerate(series):
        known = np.nan_to_num(values, nan=-1)
        edges = np.flatnonzero(np.diff(known, prepend=np.nan))
        for begin, end in zip(edges, [*edges[1:], len(values) - 1], strict=True):
            if known[begin] < 0:
                continue
            state = mapping["options"][f"{values[begin]:g}"]
            left, right = _time(times[[begin, end]])
            axes.barh(row, right - left, left=left, color=state["color"], alpha=0.75)
            if end - begin > len(values) / 15:
                axes.text(left + (right - left) / 2, row, state["text"], ha="center", va="center", fontsize=FONT)
    axes.set_yticks(range(len(series)), [name for name, *_ in series])
    _timed(axes, span)


def _listing(axes: Axes, _: Mapping[str, Any], series: Sequence[Series], __: Span) -> None:
    rows = [dict(re.findall(r'(\w+)="([^"]*)"', name)) for name, *_ in series][:MAX_ROWS]
    columns = list(rows[0])
    cells = axes.table(
        [[row[column] for column in columns] for row in rows], colLabels=columns, loc="upper center", cellLoc="left"
    )
    cells.auto_set_font_size(False)  # noqa: FBT003 - matplotlib's own signature
    cells.set_fontsize(FONT + 1)
    for cell in cells.get_celld().values():
        cell.set_edgecolor(FRAME)
    axes.set_axis_off()


DRAWN: Mapping[str, Callable[[Axes, Mapping[str, Any], Sequence[Series], Span], None]] = {
    "timeseries": _lines,
    "stat": _number,
    "heatmap": _cells,
    "state-timeline": _states,
    "table": _listing,
}


def _data(panel: Mapping[str, Any], prometheus: Prometheus, span: Span) -> list[Series]:
    """The series of a panel's queries on one grid of times; NaN where a series has no value."""
    times = np.arange(span.start, span.end, span.step_s)
    found: list[Series] = []
    for target in panel["targets"]:
        for one in prometheus.over(_chosen(target["expr"], span), times[0], times[-1], span.step_s):
            known = {round(at, 3): float(value) for at, value in one["values"]}
            values = np.array([known.get(round(at, 3), np.nan) for at in times])
            legend = _named(target.get("legendFormat"), one["metric"])
            found.append((legend, times, values))
    return found


def _named(legend: str | None, labels: Mapping[str, str]) -> str:
    """The legend with its labels filled in; without a legend, all labels."""
    if legend is None:
        return ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return re.sub(r"{{(\w+)}}", lambda key: labels.get(key[1], ""), legend)


def _place(figure: Figure, grid: Mapping[str, int], kind: str, size_in: tuple[float, float]) -> Axes:
    """The axes of a panel, with room for the title above and for labels to the left and below."""
    left, right, top, bottom = (0.0, 0.0, 0.0, 0.0) if kind == "row" else (MARGIN[0], 0.12, 0.25, 0.22)
    if kind in {"heatmap", "state-timeline"}:
        left = MARGIN[1]
    x, width = grid["x"] * UNIT_IN[0] + left + 0.08, grid["w"] * UNIT_IN[0] - left - right - 0.12
    y, height = grid["y"] * UNIT_IN[1] + top + 0.4, grid["h"] * UNIT_IN[1] - top - bottom
    return figure.add_axes((x / size_in[0], 1 - (y + height) / size_in[1], width / size_in[0], height / size_in[1]))


def _chosen(text: str, span: Span) -> str:
    return re.sub(r"\$(\w+)", lambda name: span.choices[name[1]], text)


def _properties(override: Mapping[str, Any]) -> dict[str, Any]:
    return {one["id"]: one.get("value") for one in override["properties"]}


def _time(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Days, the unit of matplotlib's dates."""
    return seconds / 86_400


def _timed(axes: Axes, span: Span) -> None:
    axes.set_xlim(*_time(np.array([span.start, span.end])))
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=5))  # type: ignore[no-untyped-call]  # shipped without types
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]  # as above


def _scaled(axes: Axes, unit: str, ends: tuple[float, float], most: float | None) -> None:
    """Scales the y axis between both ends, with room for the legend above."""
    axes.yaxis.set_major_formatter(lambda value, _: _written(value, unit))
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#f1f5f9")
    if axes.collections and not axes.lines:  # stacked: the values add up
        axes.margins(y=0.25)
        return
    low, high = ends
    height = (high - low) or 1.0
    if most is not None:
        height = (most - low) / 1.3
    axes.set_ylim(low - 0.03 * height, low + 1.3 * height)


def _written(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "s":
            return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
        case "bytes":
            return f"{value / 2**20:.3g} MiB"
        case "reqps" | "ops":
            return f"{value:.3g}/s"
    return f"{value:.4g}"
