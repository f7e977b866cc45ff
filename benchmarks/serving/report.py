"""The results as tables and as a plot."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.serving.contestants import CONTESTANTS, FLOOR, FLOOR_LABEL
from benchmarks.serving.ratios import TARGETS, Cells, Round, Spread, cpu_ms, rounds_of, spread, throughput
from benchmarks.serving.rounds import HEADLINE

mpl.use("Agg")
DPI = 110
TITLES = {
    "tiny": "Tiny model: digits, 64x64, PNG files of 3 kB",
    "keypoints": "Keypoint model: 0.34 GFLOP at 192x192, JPEG files of 640x480",
}
LABELS = {one.name: one.label for one in CONTESTANTS}
NOTHING = "-"


def tables(results: Mapping[str, Any]) -> str:
    """Markdown: the targets, then the results of every server for each model, then the settings."""
    found = {material: rounds_of(results, material) for material in TITLES}
    parts = [_targets(found), *(_table(material, rounds) for material, rounds in found.items() if rounds)]
    parts += [_settings(results), _soak(results)]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _soak(results: Mapping[str, Any]) -> list[str]:
    if "soak" not in results:
        return []
    found = results["soak"]
    (last, mb), first = found["points"][-1], found["points"][0][1]
    slope = f"{found['mb_per_100k']:+.2f} ± {found['margin']:.2f}"
    head = _row("Memory of the service, tiny model", "after 10,000", f"after {last:,}", "MB per 100,000 requests")
    return [head, "|---|---:|---:|---:|", _row("resident, MB", f"{first:.1f}", f"{mb:.1f}", slope)]


def plot(results: Mapping[str, Any], file: Path) -> None:
    """Processor time of a request and throughput, for each model; bars are medians, whiskers the range."""
    figure, rows = plt.subplots(2, len(TITLES), figsize=(10, 5.6), layout="constrained", squeeze=False)
    for column, (material, title) in zip(rows.T, TITLES.items(), strict=True):
        rounds = rounds_of(results, material)
        column[0].set_title(title, fontsize=9)
        _bars(column[0], rounds, {FLOOR: "floor"} | LABELS, cpu_ms, f"CPU ms per request, {HEADLINE} clients")
        _bars(column[1], rounds, LABELS, throughput, "requests/s, best of the closed loops")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)
    plt.close(figure)


def _bars(
    axes: Any, rounds: Sequence[Round], names: Mapping[str, str], value: Callable[[Cells], float], label: str
) -> None:
    found = {text: _of(rounds, name, value) for name, text in names.items()}
    there = {text: one for text, one in found.items() if one}
    medians = [one.median for one in there.values()]
    whiskers = [[one.median - one.low for one in there.values()], [one.high - one.median for one in there.values()]]
    axes.bar(
        list(there), medians, yerr=whiskers, capsize=3, color=["#c44" if t == "Losscast" else "#68a" for t in there]
    )
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.3)


def _targets(found: Mapping[str, Sequence[Round]]) -> list[str]:
    head = _row("Model", "Ratio within a round", "wanted", "measured: median (range)", "met", "the floor in its place")
    rows = [head, "|---|---|---:|---:|---|---:|"]
    for target in TARGETS:
        measured = spread(found[target.material], target.of)
        if measured:
            wanted = f"{'≤' if target.at_most else '≥'} {target.bound:.3g}"
            met = "yes" if target.met(measured) else "**no**"
            limit = spread(found[target.material], target.limit) if target.limit else None
            best = f"{limit.median:.2f}" if limit else NOTHING
            rows.append(_row(target.material, target.text, wanted, measured.text(3), met, best))
    return rows


def _table(material: str, rounds: Sequence[Round]) -> list[str]:
    clients = sorted(
        {
            int(load.removeprefix("clients="))
            for one in rounds
            for cells in one.values()
            for load in cells
            if "=" in load
        }
    )
    latencies = [f"p50 / p99 at {n}" for n in clients]
    head = [f"CPU ms/request at {HEADLINE}", "requests/s", *latencies, "p99 at 70 % Poisson", "memory, MB"]
    lines = [_row(TITLES[material], *head), "|---|" + "---:|" * len(head)]
    for name, label in {FLOOR: FLOOR_LABEL, **LABELS}.items():
        if not any(name in one for one in rounds):
            continue
        if name == FLOOR:
            speed = _shown(rounds, name, lambda cells: cells[FLOOR]["per_s"], 0)
            alone = _shown(rounds, name, lambda cells: cells[FLOOR]["alone_ms"], 2)
            lines.append(
                _row(label, _shown(rounds, name, cpu_ms, 3), speed, f"one alone: {alone}", *[NOTHING] * (len(head) - 3))
            )
            continue
        quantiles = [_quantiles(rounds, name, f"clients={n}") for n in clients]
        lines.append(
            _row(
                label,
                _shown(rounds, name, cpu_ms, 3),
                _shown(rounds, name, throughput, 0),
                *quantiles,
                _shown(rounds, name, lambda cells: cells["poisson"]["p99_ms"], 1),
                _shown(rounds, name, lambda cells: cells["memory"]["mb"], 0),
            )
        )
    return lines


def _settings(results: Mapping[str, Any]) -> list[str]:
    rows = ["| Settings, best of those tried | tried | tiny | keypoints |", "|---|---:|---|---|"]
    for name, label in {FLOOR: FLOOR_LABEL, **LABELS}.items():
        chosen = {material: results["chosen"].get(f"{material}/{name}") for material in TITLES}
        tried = max(len(one["tried"]) for one in chosen.values() if one) if any(chosen.values()) else 0
        if tried:
            rows.append(_row(label, tried, *(_words(one) for one in chosen.values())))
    return rows


def _words(chosen: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in chosen["settings"].items()) if chosen else NOTHING


def _of(rounds: Sequence[Round], name: str, value: Callable[[Cells], float]) -> Spread | None:
    return spread(rounds, lambda one: value(one[name]))


def _shown(rounds: Sequence[Round], name: str, value: Callable[[Cells], float], digits: int) -> str:
    found = _of(rounds, name, value)
    return found.text(digits) if found else NOTHING


def _quantiles(rounds: Sequence[Round], name: str, load: str) -> str:
    middle = _of(rounds, name, lambda cells: float(cells[load]["p50_ms"]))
    tail = _of(rounds, name, lambda cells: float(cells[load]["p99_ms"]))
    return f"{middle.median:.1f} / {tail.median:.1f}" if middle and tail else NOTHING


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
