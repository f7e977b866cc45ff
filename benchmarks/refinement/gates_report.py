"""The page of tables that `benchmarks.refinement.gates` writes, from its record."""

from collections.abc import Iterator
from typing import Any


def markdown(record: dict[str, Any]) -> str:
    """record: the content of gates.json."""
    return "\n".join([*_head(record), *_rounds(record), *_sides(record), ""])


def _head(record: dict[str, Any]) -> Iterator[str]:
    yield "# The gates, measured"
    yield ""
    first = f"{100 * record['rows'][0]['alpha']:.1f} %"
    yield f"Made by `{record['command']}`: {record['rounds']} rounds a row. Losses"
    yield "are those of the shipped bundles on their test splits. The correlation is that of the losses of live and"
    yield "candidate. Grouped: two labels a group, and half of the groups stand for four times as much traffic. Numbers"
    yield "are candidates that pass:"
    yield f"`forgetting` at its level of 5 %, the two of `gain` at {first}, that of a first attempt, and all three,"
    yield "with its binomial 95 % interval."
    yield ""


def _rounds(record: dict[str, Any]) -> Iterator[str]:
    for change in dict.fromkeys(row["change"] for row in record["rows"]):
        yield f"## Candidate: {change}"
        yield ""
        yield "| losses | labels | forgetting | gain: mean | gain: worst decile | both of gain | all three | interval |"
        yield "|---|---:|---:|---:|---:|---:|---:|---|"
        for row in (one for one in record["rows"] if one["change"] == change):
            counts = (row["forgetting"], row["mean"], row["tail"], row["gain"], row["promoted"])
            interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %"
            yield f"| {row['world']} | {row['labels']} | {' | '.join(map(str, counts))} | {interval} |"
        yield ""


def _sides(record: dict[str, Any]) -> Iterator[str]:
    yield "## Labels with left and right exchanged"
    yield ""
    yield "Real labels of pose, exchanged in none or a fifth of the images. Refused: failed, or too few labels to tell."
    yield ""
    yield "| labels | honest: passed | honest: too few | honest: failed | a fifth: refused | of them failed | runs |"
    yield "|---:|---:|---:|---:|---:|---:|---|"
    for row in record["sides"]:
        honest, bad = row["honest"], row["exchanging"]
        refused = bad["failed"] + bad["too_few_labels"]
        counts = (honest["passed"], honest["too_few_labels"], honest["failed"], refused, bad["failed"])
        runs = f"{sum(honest.values())} honest, {sum(bad.values())} exchanging"
        yield f"| {row['labels']} | {' | '.join(map(str, counts))} | {runs} |"
