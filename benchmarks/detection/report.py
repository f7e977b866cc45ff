"""The record of the comparison as Markdown tables and two plots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.detection.corruptions import KINDS, STRENGTHS
from benchmarks.detection.record import VERDICT

MAIN = {
    "one_minus_naurc": "1 - nAURC",
    "failure_auroc": "AUROC, loss > .5",
    "worst_auroc": "AUROC, worst 20 %",
    "rank_correlation": "rank correlation",
    "share_of_oracle_cut": "share of oracle's cut at 80 %",
    "false_positive_rate": "FPR at 95 % TPR",
    "keypoint_auroc": "AUROC of keypoints",
}
BUDGETS = {f"{what}_{budget}": f"{what} at {budget} %" for budget in (5, 10, 20) for what in ("recall", "precision")}
CALIBRATION = {
    "mean_error": "mean predicted over mean loss, less 1",
    "decile_error_mean": "mean error of a decile",
    "decile_error_worst": "worst decile",
}


def tables(record: dict[str, Any]) -> str:
    """All tables; the page in docs contains exactly these."""
    lines = [
        *_conditions(record),
        "",
        "### Clean test images",
        "",
        "Mean over trunks and seeds; what is behind the slash is the worst of them.",
        "",
        *_table(record, MAIN),
        "",
        *_ahead(record),
        "",
        "### What a labelling budget finds (failures: loss > .5)",
        "",
        *_table(record, BUDGETS),
        "",
        "### Predicted loss in its unit",
        "",
        "The loss map is fitted on the calibration split; relative errors on the test split.",
        "",
        *_table(record, CALIBRATION),
        "",
        "### Under corruptions that no training saw",
        "",
        f"AUROC of failures over the five strengths of a corruption together; `{VERDICT}`: the order in",
        "which the verdict flags images as its score threshold falls.",
        "",
        *_shift_table(record),
        "",
    ]
    return "\n".join(lines)


def digits_tables(record: dict[str, Any]) -> str:
    """The tables of digits, with the same columns."""
    made, level = record["conditions"], record["conditions"]["failure_level"]
    columns = {key: title.replace("> .5", f"> {level:g} px") for key, title in MAIN.items() if key != "keypoint_auroc"}
    lines = [
        f"The trunk of bundle {made['bundle']}, {made['head_seeds']} seeds of every head;",
        f"{made['test_canvases']} canvases of {made['test_digits']} test digits. Mean over seeds / the worst.",
        "",
        *_table(record, columns),
        "",
        *_ahead(record),
        "",
        "### Predicted loss in its unit",
        "",
        *_table(record, CALIBRATION),
        "",
    ]
    return "\n".join(lines).replace("\n### ", "\n#### ")


def plot_coverage(record: dict[str, Any], path: Path) -> None:
    """Risk over coverage."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, curve in record["curves"].items():
        axes.plot(*zip(*curve, strict=True), label=name, linewidth=2.5 if name == record["shipped"] else 1.2)
    axes.axhline(record["curves"]["oracle"][-1][1], color="grey", linestyle=":", label="random")
    axes.set(xlabel="coverage: share of images kept", ylabel="risk: mean loss of those, torso lengths", ylim=(0, None))
    axes.legend(fontsize=8)
    _save(figure, path)


def plot_shift(record: dict[str, Any], path: Path) -> None:
    """AUROC of failures over strength, for each corruption."""
    shown = (record["shipped"], VERDICT, "heatmap peak, mean", "Mahalanobis distance")
    figure, axes = plt.subplots(2, 4, figsize=(11, 5), sharex=True, sharey=True)
    for kind, place in zip(KINDS, axes.flat, strict=False):
        for name in shown:
            values = [record["shift"]["strengths"][f"{kind}-{strength}"][name] for strength in STRENGTHS]
            place.plot(STRENGTHS, [float("nan") if one is None else one for one in values], label=name, marker=".")
        place.axhline(0.5, color="grey", linestyle=":")
        place.set(title=kind, ylim=(0.3, 1))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(handles, labels, loc="center", fontsize=9)
    figure.supxlabel("strength")
    figure.supylabel("AUROC of failures")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _conditions(record: dict[str, Any]) -> Iterator[str]:
    made = record["conditions"]
    yield (
        f"{len(made['trunks'])} trunk(s), {made['head_seeds']} seeds of every head on each; "
        f"{made['test_images']} test images, {made['calibration_images']} calibration images."
    )
    yield ""
    yield "| trunk | PCK at .5 torso | mean loss | failures | mean loss, held-out images | images it learned from |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for one in record["trunks"]:
        yield (
            f"| {one['number']} | {one['pck']:.3f} | {one['mean_loss']:.3f} | "
            f"{100 * one['failure_rate']:.1f} % | {one['mean_loss_held_out']:.3f} | {one['mean_loss_learned']:.3f} |"
        )


def _ahead(record: dict[str, Any]) -> Iterator[str]:
    yield f"### How far `{record['shipped']}` is ahead"
    yield ""
    yield "Difference of 1 - nAURC; 95 % intervals that hold for all rows at once (paired bootstrap of images, max-t)."
    yield ""
    yield "| rival | difference | interval | excludes zero |"
    yield "|---|---:|---:|---|"
    for name, row in record["ahead"].items():
        sure = "yes" if row["low"] > 0 or row["high"] < 0 else "no"
        yield f"| {name} | {row['mean']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} | {sure} |"


def _table(record: dict[str, Any], columns: dict[str, str]) -> Iterator[str]:
    yield f"| score | {' | '.join(columns.values())} |"
    yield "|---|" + "---:|" * len(columns)
    for name, row in record["figures"].items():
        if any(key in row for key in columns):
            title = f"**{name}**" if name == record["shipped"] else name
            yield f"| {title} | {' | '.join(_value(row.get(key)) for key in columns)} |"


def _value(cell: dict[str, float] | None) -> str:
    if cell is None:
        return ""
    mean, worst = (f"{cell[key]:.3f}" for key in ("mean", "worst"))
    return mean if mean == worst else f"{mean} / {worst}"


def _shift_table(record: dict[str, Any]) -> Iterator[str]:
    groups = record["shift"]["kinds"] | record["shift"]["all"]
    names = [key for key in next(iter(groups.values())) if key != "failure_rate"]
    yield f"| corruption | failures | {' | '.join(names)} |"
    yield "|---|---:|" + "---:|" * len(names)
    for kind, row in groups.items():
        cells = ("" if row[name] is None else f"{row[name]:.3f}" for name in names)
        yield f"| {kind} | {100 * row['failure_rate']:.0f} % | {' | '.join(cells)} |"
