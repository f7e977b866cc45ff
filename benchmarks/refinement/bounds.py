"""Which one-sided bound of a mean keeps its level: the comparison behind docs/decisions/0023-gates.md.

    OMP_NUM_THREADS=1 python -m benchmarks.refinement.bounds

The true change is exactly the margin, so a bound of level 5 % may let 5 % of the rounds pass. Two kinds of paired
losses are drawn: real ones of digits, where one image in 33 is twice as bad (a small sample often has none of these),
and log-normal factors. It writes bounds.json and bounds.md, in some three minutes on one processor.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
import typer
from numpy.typing import NDArray
from scipy import stats

from models.evaluation.bundle import true_losses
from models.refinement.gates.paired import Mean, weighted_mean
from models.tasks.digits import Digits

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.refinement.bounds"
LEVEL = 0.05
RARE = 33  # one image in so many is twice as bad
SPREAD = 0.3  # of the logarithm of the factors
SIZES = (30, 50, 100, 200, 400)
REDRAWS = 499  # of a bootstrap
JSON = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]  # -> candidate - (1 + margin) live [n], whose true mean is 0
Bound = Callable[[Array, np.random.Generator], float]  # excess [n] -> upper bound of its mean


def main(
    rounds: Annotated[int, typer.Option(help="For each kind of loss, size and bound.")] = 4000,
    out: Annotated[Path, typer.Option(help="Folder for bounds.json and bounds.md.")] = RESULTS,
) -> None:
    """Measures, prints the table and writes the results."""
    task = Digits()
    losses = true_losses(ROOT / "bundles" / "digits" / "1", task)
    found = {
        kind: {
            str(size): {name: _passing(draw, bound, size, rounds) for name, bound in BOUNDS.items()} for size in SIZES
        }
        for kind, draw in kinds(losses).items()
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "bounds.json").write_bytes(orjson.dumps({"rounds": rounds, "level": LEVEL, "passed": found}, option=JSON))
    text = page(found, rounds)
    (out / "bounds.md").write_text(text)
    print(text)


def kinds(losses: Array) -> dict[str, Draw]:
    """losses: those that live is drawn with."""

    def rare(rng: np.random.Generator, size: int) -> Array:
        live = rng.choice(losses, size)
        return live * np.where(rng.random(size) < 1 / RARE, 2.0, 1.0) - (1 + 1 / RARE) * live

    def spread(rng: np.random.Generator, size: int) -> Array:
        live = rng.choice(losses, size)
        return live * (rng.lognormal(-(SPREAD**2) / 2, SPREAD, size) - 1)

    return {f"one image in {RARE} twice as bad": rare, f"log-normal factors, {SPREAD}": spread}


def student(excess: Array, _rng: np.random.Generator) -> float:
    """Student's bound."""
    mean = _mean(excess)
    return Mean(mean.value, mean.error, 0.0, mean.groups).upper(LEVEL)


def hall(excess: Array, _rng: np.random.Generator) -> float:
    """The bound of the gates: the farther of Student's and Hall's."""
    return _mean(excess).upper(LEVEL)


def bootstrap_t(excess: Array, rng: np.random.Generator) -> float:
    """The bootstrap of Student's statistic (Efron and Tibshirani 1993, chapter 12)."""
    drawn = excess[rng.integers(0, excess.size, (REDRAWS, excess.size))]
    root = np.sqrt(excess.size)
    errors = drawn.std(axis=1, ddof=1) / root
    error = excess.std(ddof=1) / root
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = np.nan_to_num((drawn.mean(axis=1) - excess.mean()) / errors, nan=0.0)
    return float(excess.mean() - np.quantile(statistics, LEVEL) * error)


def normal(excess: Array, _rng: np.random.Generator) -> float:
    """The bound of the central limit theorem."""
    return float(excess.mean() + stats.norm.isf(LEVEL) * excess.std(ddof=1) / np.sqrt(excess.size))


BOUNDS: dict[str, Bound] = {"normal": normal, "Student": student, "bootstrap-t": bootstrap_t, "Student and Hall": hall}


def page(found: dict[str, dict[str, dict[str, float]]], rounds: int) -> str:
    """The results as Markdown."""
    lines = [
        "# Bounds, measured",
        "",
        f"Made by `{COMMAND}`: {rounds} rounds a cell. The true change is exactly the",
        f"margin. Numbers are the share of rounds that pass, where {LEVEL:.0%} are allowed.",
        "",
        f"| losses | labels | {' | '.join(BOUNDS)} |",
        f"|---|---:|{'---:|' * len(BOUNDS)}",
    ]
    for kind, sizes in found.items():
        for size, passed in sizes.items():
            lines.append(f"| {kind} | {size} | {' | '.join(f'{passed[name]:.1%}' for name in BOUNDS)} |")
    return "\n".join(lines) + "\n"


def _mean(excess: Array) -> Mean:
    return weighted_mean(excess, np.ones(excess.size), np.arange(excess.size))


def _passing(draw: Draw, bound: Bound, size: int, rounds: int) -> float:
    """The share of rounds whose bound is below 0; every bound sees the same labels."""
    rng, own = np.random.default_rng(size), np.random.default_rng(0)
    return float(np.mean([bound(draw(rng, size), own) < 0 for _ in range(rounds)]))


if __name__ == "__main__":
    typer.run(main)
