"""The page of tables that `benchmarks.calibration.guarantees` writes, from its record."""

from collections.abc import Iterator
from typing import Any


def markdown(record: dict[str, Any]) -> str:
    """record: the content of guarantees.json."""
    return "\n".join([*_head(record), *_marginal_rows(record), *_selective_rows(record), *_shipped_rows(record), ""])


def _head(record: dict[str, Any]) -> Iterator[str]:
    yield "# The promises, measured"
    yield ""
    yield f"Made by `{record['command']}`. Three promises hold on average over calibration sets: {record['resplits']}"
    yield f"resplits of each pool into {record['calibration_sources']} calibration sources and the rest. Of digits"
    yield "and of synthetic sources there are four views each."
    yield "Used: mean over level. Spread: standard deviation over resplits. One view: of each calibration source."
    yield ""


def _marginal_rows(record: dict[str, Any]) -> Iterator[str]:
    yield _row("pool", "promise", "level", "mean", "2 SE", "kept", "used", "spread", "refused")
    yield "|---|---|---:|---:|---:|---|---:|---:|---:|"
    for name, pool in record["pools"].items():
        for title, row in pool["marginal"].items():
            kept = "yes" if row["mean"] <= row["level"] + row["two_se"] else "NO"
            figures = (f"{row['level']:g}", f"{row['mean']:.4f}", f"{row['two_se']:.4f}", kept)
            use = (_percent(row["mean"] / row["level"]), f"{row['spread']:.4f}", _percent(row["refused"]))
            yield _row(name, title, *figures, *use)


def _selective_rows(record: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "Selective risk holds for a share 1 - delta of calibration sets: independent draws from a pool, whose own"
    yield "risk is known. Plug-in: the threshold at which the observed mean loss is the level."
    yield ""
    measured = ("draws", "violations", "2 SE", "kept", "refused", "mean risk", "coverage", "plug-in")
    yield _row("pool", "level", "delta", *measured)
    yield "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|"
    for name, pool in record["pools"].items():
        row = pool["selective"]
        kept = "yes" if row["violations"] <= row["delta"] + row["two_se"] else "NO"
        violations = (_percent(row["violations"], 2), _percent(row["two_se"], 2), kept, _percent(row["refused"]))
        use = (f"{row['mean_risk']:.3f}", _percent(row["mean_coverage"]), _percent(row["violations_of_plug_in"]))
        yield _row(name, f"{row['level']:g} {pool['unit']}", f"{row['delta']:g}", str(row["draws"]), *violations, *use)


def _shipped_rows(record: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "One draw, the calibration split of each bundle, and what its thresholds do on the test split:"
    yield ""
    yield _row("bundle", "point", "level", "flagged", "failures missed", "joint risk", "selective risk")
    yield "|---|---|---:|---:|---:|---:|---:|"
    for one in record["shipped"].values():
        for name, row in one["points"].items():
            shares = (_percent(row["flagged"]), _percent(row["missed_of_failures"]))
            risks = (f"{row['joint_risk']:.3f}", f"{row['selective_risk']:.3f}")
            yield _row(one["bundle"], name, f"{row['level']:g}", *shares, *risks)
    for one in record["shipped"].values():
        for name, reason in one["refused"].items():
            yield f"\nRefused by {one['bundle']}: {name}: {reason}."


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
