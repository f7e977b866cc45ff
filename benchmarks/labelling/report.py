"""The results as a table and as a plot."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

mpl.use("Agg")
DPI = 110


def plot(scaling: Mapping[str, Any], file: Path) -> None:
    """Median latency by the number of pending samples, with the 10th and 90th percentile."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    sizes = scaling["sizes"]
    for name, by_size in scaling["latency_us"].items():
        cells = [by_size[str(size)] for size in sizes]
        medians = [cell["median"] for cell in cells]
        spread = [
            [cell["median"] - cell["p10"] for cell in cells],
            [cell["p90"] - cell["median"] for cell in cells],
        ]
        axes.errorbar(sizes, medians, yerr=spread, label=name, marker="o", capsize=3, linewidth=1.5)
    axes.set(xscale="log", xlabel="samples pending", ylabel="latency seen by one client, µs")
    highest = max(cell["p90"] for by_size in scaling["latency_us"].values() for cell in by_size.values())
    axes.set_ylim(0, 1.15 * highest)  # room for the legend
    axes.set_title(
        f"Queue operations, median of {scaling['rounds']} interleaved rounds (bars: 10th to 90th percentile)"
    )
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    axes.legend(ncols=len(scaling["latency_us"]), fontsize=8, loc="upper center")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)
    plt.close(figure)


def tables(results: Mapping[str, Any]) -> str:
    """Markdown, of the parts that were measured."""
    parts = {"drain": _drain, "lease_and_label": _lease, "scaling": _scaling, "flagged": _flagged}
    return "\n\n".join("\n".join(write(results[name])) for name, write in parts.items() if name in results) + "\n"


def _drain(found: Mapping[str, Any]) -> list[str]:
    names = {
        "put_per_s": "put",
        "settled_and_deleted_per_s": "put, settled and deleted from the journal",
        "put_per_s_while_each_evicts_one": "put into a full queue, each evicting one",
        "settled_and_deleted_per_s_while_each_evicts_one": "the same, settled and deleted",
    }
    head = [
        _row(f"Drain, {found['pending']:,} pending, {found['samples']:,} images of 3 kB", "samples/s"),
        "|---|---:|",
    ]
    return head + [_row(text, _rates(found[name])) for name, text in names.items()]


def _lease(found: Mapping[str, Any]) -> list[str]:
    title = f"Lease and label, {found['pending']:,} pending, {found['workers']} workers"
    rows = {"leased one by one": "one_by_one_per_s", "leased 20 at a time": "by_20_per_s"}
    return [_row(title, "samples/s"), _rule(1)] + [_row(text, _rates(found[name])) for text, name in rows.items()]


def _scaling(found: Mapping[str, Any]) -> list[str]:
    sizes: Sequence[int] = found["sizes"]
    rows = [_row("Median latency, µs", *(f"{size:,} pending" for size in sizes), "last / first"), _rule(len(sizes) + 1)]
    for name, by_size in found["latency_us"].items():
        medians = [by_size[str(size)]["median"] for size in sizes]
        rows.append(_row(name, *(f"{median:.0f}" for median in medians), f"{medians[-1] / medians[0]:.2f}"))
    memory = [found["memory_bytes_per_sample"][str(size)] for size in sizes]
    return [*rows, _row("memory of a sample, bytes", *map(str, memory), f"{memory[-1] / memory[0]:.2f}")]


def _flagged(found: Mapping[str, Any]) -> list[str]:
    head = ("Requests", "median, ms", "99th percentile, ms", "processor, µs", "requests/s")
    rows = [_row(*head), _rule(len(head) - 1)]
    order = sorted(found["latency_ms"], key=lambda name: [int(number) for number in _numbers(name)])
    base = ""
    for name in order:
        base = name if ", 0% " in name else base
        cells = [
            _relative(found["latency_ms"][name]["median"], found["latency_ms"][base]["median"], "{:.2f}"),
            _relative(found["latency_ms"][name]["p99"], found["latency_ms"][base]["p99"], "{:.2f}"),
            _relative(found["processor_us_per_request"][name], found["processor_us_per_request"][base], "{:.0f}"),
            _relative(found["requests_per_s"][name], found["requests_per_s"][base], "{:.0f}"),
        ]
        rows.append(_row(name, *cells))
    return rows


def _numbers(name: str) -> list[str]:
    return name.replace(" clients, ", " ").replace("% flagged", "").split()


def _relative(number: float, base: float, form: str) -> str:
    return form.format(number) + (f" (x{number / base:.2f})" if number != base else "")


def _rates(rates: Sequence[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def _rule(columns: int) -> str:
    return "|---|" + "---:|" * columns


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
