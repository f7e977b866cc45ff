"""The results as tables and as a plot."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from scipy import stats

from benchmarks.drift.conditions import CHANGES, QUIET, Change
from benchmarks.drift.rivals import NAMES

mpl.use("Agg")
DPI = 110
MONTH = 30
HEADLINE = "+.5 sd, independent, 1/s"  # whose delays the plot shows
COMPARED = {  # quiet runs with rivals, by what the plot calls them
    "independent, rivals": "independent",
    "AR, 1/s": "AR(.9)",
    "clips, 1/s": "clips",
    "clips with header, 1/s": "clips,\nheader",
    "small cycle, rivals": "daily cycle",
}

Results = Mapping[str, Any]


def tables(results: Results) -> str:
    """Markdown, of whatever runs there are."""
    return "\n".join([*_quiet(results), "", *_compared(results), "", *_changes(results), "", *_delays(results)]) + "\n"


def false_alerts(found: Mapping[str, Any]) -> float:
    """Days with an alert among 30."""
    return MONTH * float(found["alert_days"]) / float(found["days"])


def _quiet(results: Results) -> Iterator[str]:
    head = (
        "Quiet traffic",
        "images/s",
        "signals",
        "days",
        "D",
        "warning days",
        "days with a false alert",
        "alerts by day",
    )
    yield _row(*head)
    yield "|---|---:|---:|---:|---:|---:|---:|---|"
    for name, condition in QUIET.items():
        if name not in results or "rivals" in name:
            continue
        found = results[name]
        low, high = _poisson(found["alert_days"])
        interval = f"{_of_month(low, found['days'])} to {_of_month(high, found['days'])}"
        alerts = f"{_of_month(found['alert_days'], found['days'])} ({interval})"
        by_day = ", ".join(str(n) for n in found["alerts_by_day"])
        warnings, effect = _of_month(found["warning_days"], found["days"]), f"{found['design_effect'][0]:.1f}"
        world = condition.world
        numbers = f"{world.per_s:g}", f"{condition.signals}", f"{found['days']:,}"
        yield _row(world.title, *numbers, effect, warnings, alerts, by_day)


def _compared(results: Results) -> Iterator[str]:
    yield _row("Quiet traffic, 1 image/s: days with a false alert, of 30", "losscast", *NAMES)
    yield "|---|---:|" + "---:|" * len(NAMES)
    for name in COMPARED:
        if name in results:
            others = results[name]["rivals"]
            own = _own(results, name)
            cells = [_rival(others[who]) for who in NAMES]
            yield _row(QUIET[name].world.title, _of_month(own["alert_days"], own["days"]), *cells)


def _changes(results: Results) -> Iterator[str]:
    yield _row("Change", "images/s", "found: warning", "found: alert", "images until the warning", "until the alert")
    yield "|---|---:|---:|---:|---:|---:|"
    for name, condition in CHANGES.items():
        if name in results:
            found = results[name]
            warning, alert = found["warning"], found["alert"]
            shares = f"{warning['found']:.0%}", f"{alert['found']:.0%}"
            per_s = f"{condition.world.per_s:g}"
            yield _row(_title(condition), per_s, *shares, _quartiles(warning), _quartiles(alert))


def _delays(results: Results) -> Iterator[str]:
    yield _row("Images until the first alarm after the change, 1 image/s", "losscast", *NAMES)
    yield "|---|---:|" + "---:|" * len(NAMES)
    for name, condition in CHANGES.items():
        if name in results and results[name]["rivals"]:
            others = results[name]["rivals"]
            cells = [_median(others[who]) for who in NAMES]
            yield _row(_title(condition), _median(results[name]["alert"]), *cells)


def plot(results: Results, file: Path) -> None:
    """False alerts by traffic and detector, and the delay beside them."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=[1.5, 1])
    names = [name for name in COMPARED if name in results]
    series = {"losscast": [false_alerts(_own(results, name)) for name in names]}
    series |= {who: [false_alerts(results[name]["rivals"][who]) for name in names] for who in NAMES}
    width = 0.8 / len(series)
    for i, (who, values) in enumerate(series.items()):
        places = [place + (i - (len(series) - 1) / 2) * width for place in range(len(names))]
        left.bar(places, values, width, label=who, color=_color(i))
    left.axhline(1, color="black", linewidth=0.8, linestyle="--")
    left.text(-0.62, 1.3, "target: 1", fontsize=8)
    left.set_xticks(range(len(names)), [COMPARED[name] for name in names], fontsize=8)
    left.set(ylabel="days with a false alert, of 30", ylim=(0, 38))
    left.legend(ncols=3, fontsize=8, loc="upper center")
    left.set_title("Quiet traffic, 1 image/s", fontsize=9)
    _plot_delays(right, results, series)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)
    plt.close(figure)


def _plot_delays(axes: Any, results: Results, series: Mapping[str, Sequence[float]]) -> None:
    found = {"losscast": results[HEADLINE]["alert"], **results[HEADLINE]["rivals"]}
    for i, who in enumerate(series):
        low, median, high = found[who]["quartiles"]
        bars = [[median - low], [high - median]]
        axes.errorbar([series[who][0]], [median], yerr=bars, marker="o", capsize=3, label=who, color=_color(i))
    axes.axhline(300, color="black", linewidth=0.8, linestyle="--")
    axes.text(30, 312, "target: 300", ha="right", fontsize=8)
    axes.set(xlabel="days with a false alert, of 30", ylabel="images until an alert", ylim=(0, 800), xlim=(-1.5, 32))
    axes.set_title("Independent traffic, log loss up by .5 sd: median and quartiles", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", ncols=3)


def _own(results: Results, name: str) -> Mapping[str, Any]:
    """The shipped detector's longer run of the same traffic, where there is one."""
    longer = {"independent, rivals": "independent, 1/s", "small cycle, rivals": "small cycle, 10/s"}.get(name, name)
    found: Mapping[str, Any] = results.get(longer, results[name])
    return found


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _title(condition: Change) -> str:
    parts = [f"log loss {condition.score:+.1f} sd" if condition.score else ""]
    parts += [f"OOD score {condition.ood_score:+.1f} sd" if condition.ood_score else ""]
    when = "at the restart" if condition.at_restart else "in mid-day"
    return f"{' and '.join(part for part in parts if part)}, {when}; {condition.world.title}"


def _quartiles(found: Mapping[str, Any]) -> str:
    low, median, high = (f"{one:,.0f}" if one is not None else "-" for one in found["quartiles"])
    return f"{median} ({low} to {high})"


def _median(found: Mapping[str, Any]) -> str:
    median = found["quartiles"][1]
    return f"{median:,.0f}" if median is not None else "-"


def _rival(found: Mapping[str, Any]) -> str:
    alarms = MONTH * found["alarms"] / found["days"]
    return f"{false_alerts(found):.1f} ({alarms:,.0f} alarms)"


def _of_month(days: float, of: int) -> str:
    return f"{MONTH * days / of:.2f}"


def _poisson(count: int) -> tuple[float, float]:
    """95 % interval of a Poisson mean (Garwood 1936)."""
    low = float(stats.chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(stats.chi2.ppf(0.975, 2 * count + 2)) / 2


def _color(i: int) -> str:
    return ["#1b6ca8", "#e09f3e", "#9e2a2b", "#6a994e", "#7b5ea7", "#999999"][i]
