"""`losscast drift`: prints the drift report in words and bars, and draws reference and window on request."""

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from service.client import DEFAULT_URL
from service.commands.console import ApiKey, AsJson, Model, Url, connected, fail, print_json, say
from service.schemas.drift import DriftReport

BARS = "▁▂▃▄▅▆▇█"
STYLES = {"insufficient_data": "dim", "stable": "green", "warning": "yellow", "drift": "bold red"}
COLUMNS, TITLE_WIDTH = 3, 170  # of the drawing, in panels and in letters


def drift(
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw reference and window into this file (.png, .svg or .pdf).")
    ] = None,
) -> None:
    """Show whether recent images still look like those the model was calibrated on, and which signals moved.

    Example: losscast drift --plot drift.png
    """
    with connected(url, api_key) as client:
        report = client.drift(model=model)
    if plot:
        draw(report, plot)
    if as_json:
        print_json(report.model_dump())
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{report.model} {report.version}: [{STYLES[report.state]}]{report.state}[/]", end="  ")
    say(report.reason)
    say(report.summary)
    say(f"To do: {report.advice}")
    Console().print(_signal_table(report))
    for line in _figures(report):
        say(line)
    if plot:
        say(f"Reference and window are drawn in {plot}.")


def sparkline(shares: Sequence[float], full: float) -> str:
    """One character per share; the share `full` gives the highest bar."""
    if full <= 0:
        return BARS[0] * len(shares)
    return "".join(BARS[min(round(share / full * (len(BARS) - 1)), len(BARS) - 1)] for share in shares)


def draw(report: DriftReport, file: Path) -> None:
    """Draws a panel per signal: the shares of the window beside those of the reference, in the reference's bins."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only drawings need it, and only an extra installs it
    except ModuleNotFoundError:
        fail("a drawing needs matplotlib: pip install 'losscast[plot]'")
    rows = -(-len(report.signals) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.6 * rows + 0.6), layout="constrained")
    title = f"{report.model} {report.version}: {report.state}. {report.summary}"
    figure.suptitle(textwrap.fill(title, TITLE_WIDTH), fontsize=9)
    for axes, signal in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, report.signals, strict=False):
        places = range(len(signal.reference))
        axes.bar([place - 0.2 for place in places], signal.reference, 0.4, label="reference", color="#9aa5b1")
        axes.bar([place + 0.2 for place in places], signal.window, 0.4, label="window", color="#d1495b")
        axes.set_xticks([place + 0.5 for place in places[:-1]], [f"{edge:.4g}" for edge in signal.edges])
        axes.tick_params(axis="x", labelrotation=90, labelsize=6)
        axes.set_title(f"{signal.name}: evidence {signal.evidence:.1f}", fontsize=9)
    for axes in figure.axes[len(report.signals) :]:
        axes.remove()
    figure.axes[0].legend(fontsize=7)
    figure.axes[0].set_ylabel("share of images")
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        fail(f"{file} cannot be drawn: {error}")


def _signal_table(report: DriftReport) -> Table:
    rows = Table(box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    for column in ("signal", "evidence", "shift", "since, UTC", "reference\nwindow", "PSI (null)", "KS"):
        rows.add_column(column, no_wrap=True)
    for signal in report.signals:
        full = max([*signal.reference, *signal.window])
        psi = f"{signal.psi:.2f} ({signal.psi_null:.2f})"
        bars = f"{sparkline(signal.reference, full)}\n{sparkline(signal.window, full)}"
        since = _time(signal.since, "%H:%M:%S") if signal.since is not None else ""
        shift, style = f"{100 * signal.shift:+.0f} %", "bold red" if signal.is_named else ""
        rows.add_row(signal.name, f"{signal.evidence:.1f}", shift, since, bars, psi, f"{signal.ks:.2f}", style=style)
    return rows


def _figures(report: DriftReport) -> list[str]:
    hours = report.window_s / 3600
    seen = f"In the last {hours:g} h {report.observations} images counted and {report.thinned} were thinned"
    lines = [
        f"{seen}. The evidence of all signals is {report.evidence:.1f}; it counts from {report.threshold:g} on (log10)."
    ]
    if loss := report.loss:
        basis = "by the loss head alone" if loss.assumes_head else f"with {loss.audit_labels} audit labels"
        lines.append(
            f"Mean loss {loss.value:.3g} {loss.unit} ({loss.low:.3g} to {loss.high:.3g}), {basis}; "
            f"{loss.reference:.3g} in the reference."
        )
    if ood := report.ood:
        lines.append(
            f"OOD score above the reference's 95 % point: {ood.rate:.1%} of images ({ood.low:.1%} to {ood.high:.1%}); "
            f"{ood.reference:.0%} in the reference."
        )
    if report.embedding_shift is not None:
        lines.append(
            f"The mean embedding is {report.embedding_shift:.2g} standard deviations away from the reference's."
        )
    if report.not_watched:
        lines.append(f"Not watched, because the bundle has no reference for them: {', '.join(report.not_watched)}.")
    lines.append(f"Report of {_time(report.updated_at)}, {report.age_s:.0f} s old.")
    return lines


def _time(unix_s: float, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime(form)
