"""Do the four promises hold, and how close do they come to their level?

Run `python -m benchmarks.calibration.guarantees --pose-data DIR`.

A pool of sources with known losses is split many times into calibration and test. Each promise is calibrated on one
part and measured on the other. Selective risk holds for most calibration sets instead of on average: it is calibrated
on draws from the pool and compared with the pool's own risk. The pools are synthetic losses and the outputs of the
shipped bundles; pose needs its photographs. It writes guarantees.json and guarantees.md.
"""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import scipy
import typer
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.calibration.pools import Pool, Shipped, shipped, synthetic_pool
from benchmarks.calibration.report import markdown
from models.calibration.data import CalibrationData
from models.calibration.guarantees import (
    DELTA,
    Infeasible,
    flag_budget,
    joint_risk,
    miss_rate,
    operating_points,
    selective_risk,
)
from models.contract.bundle import read_manifest
from models.contract.manifest import Loss, OperatingPoint

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "calibration" / "results"
CALIBRATION_SIZE = 400  # sources
ONE_VIEW = "flag budget, one view"
Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Marginal:
    """A promise on average: its level, its calibration, and the quantity that it bounds on a test set."""

    level: float
    calibrate: Callable[[CalibrationData, float], OperatingPoint]
    bounded: Callable[[CalibrationData, NDArray[np.bool_]], tuple[float, float]]  # (data, flagged) -> a / b


def flagged_share(data: CalibrationData, flagged: NDArray[np.bool_]) -> tuple[float, float]:
    return float(data.weights[flagged].sum()), float(data.size)


def missed_share(data: CalibrationData, flagged: NDArray[np.bool_]) -> tuple[float, float]:
    return float(data.weights[data.failed & ~flagged].sum()), float(data.weights[data.failed].sum())


def passed_loss(data: CalibrationData, flagged: NDArray[np.bool_]) -> tuple[float, float]:
    return float((data.weights * data.clipped)[~flagged].sum()), float(data.size)


def flags(point: OperatingPoint, data: CalibrationData) -> NDArray[np.bool_]:
    verdict: NDArray[np.bool_] = np.logical_or.reduce(list(point.flags(data.scores, data.ood_scores).values()))
    return verdict


def marginal(pool: Pool, promise: Marginal, resplits: int, size: int = CALIBRATION_SIZE) -> dict[str, float]:
    """Mean of the bounded quantity over resplits, its Monte Carlo error, and the share of calibration sets refused.

    The mean of a ratio is the ratio of means: the promise is on an expectation, given failure or not. A
    refusal flags nothing when flags are bounded, and everything otherwise.
    """
    rng, refused = np.random.default_rng(0), 0
    found = []
    for _ in range(resplits):
        chosen = np.zeros(pool.data.size, bool)
        chosen[rng.permutation(pool.data.size)[:size]] = True
        test = pool.of_sources(~chosen)
        try:
            verdict = flags(promise.calibrate(pool.of_sources(chosen), promise.level), test)
        except Infeasible:
            refused += 1
            verdict = np.full(test.scores.size, promise.bounded is not flagged_share)
        found.append(promise.bounded(test, verdict))
    above, below = np.array(found).T
    mean = above.sum() / below.sum()
    error = (above - mean * below).std(ddof=1) / np.sqrt(resplits) / below.mean()
    return {
        "level": promise.level,
        "mean": float(mean),
        "two_se": float(2 * error),
        "spread": float((above / below).std(ddof=1)),
        "refused": refused / resplits,
    }


def selective(pool: Pool, level: float, draws: int, size: int = CALIBRATION_SIZE) -> dict[str, float]:
    """Share of calibration sets whose verdict breaks `level` on the pool they are drawn from, and more."""
    rng, n = np.random.default_rng(1), pool.data.scores.size
    broken, plug_in_broken, coverages, risks = 0, 0, [], []
    for _ in range(draws):
        data = pool.of_rows(rng.integers(0, n, size), independent=True)
        plug_in = _plug_in(data, level)
        plug_in_broken += plug_in is not None and _risk(pool.data, pool.data.scores <= plug_in)[0] > level
        try:
            point = selective_risk(data, level, DELTA, pool.grid)
        except Infeasible:
            continue
        risk, coverage = _risk(pool.data, ~flags(point, pool.data))
        broken += risk > level
        coverages.append(coverage)
        risks.append(risk)
    rate = broken / draws
    return {
        "level": level,
        "delta": DELTA,
        "draws": draws,
        "violations": rate,
        "two_se": 2 * float(np.sqrt(DELTA * (1 - DELTA) / draws)),
        "refused": 1 - len(risks) / draws,
        "mean_risk": float(np.mean(risks)) if risks else float("nan"),
        "mean_coverage": float(np.mean(coverages)) if risks else float("nan"),
        "violations_of_plug_in": plug_in_broken / draws,
    }


def _plug_in(data: CalibrationData, level: float) -> float | None:
    """The threshold without a guarantee: the highest score up to which the observed mean loss keeps the level."""
    order = np.argsort(data.scores)
    means = data.clipped[order].cumsum() / np.arange(1, order.size + 1)
    kept = np.flatnonzero(means <= level)
    return float(data.scores[order][kept[-1]]) if kept.size else None


def _risk(data: CalibrationData, accepted: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean loss of the accepted inputs, and their share."""
    return (float(data.clipped[accepted].mean()) if accepted.any() else 0.0), float(accepted.mean())


def _of_one_view(rng: np.random.Generator, data: CalibrationData, level: float) -> OperatingPoint:
    """Draws one view of each source at random: in a pool the views with one number are a sample of their own."""
    shuffled = rng.permutation(data.scores.size)
    rows = shuffled[np.unique(data.sources[shuffled], return_index=True)[1]]
    return flag_budget(
        CalibrationData.of(data.scores[rows], data.ood_scores[rows], data.losses[rows], data.loss), level
    )


def promises(loss: Loss) -> dict[str, Marginal]:
    return {
        "flag budget": Marginal(0.1, flag_budget, flagged_share),
        ONE_VIEW: Marginal(0.1, partial(_of_one_view, np.random.default_rng(2)), flagged_share),
        "miss rate": Marginal(0.1, miss_rate, missed_share),
        "joint risk": Marginal(0.4 * loss.failure_level, joint_risk, passed_loss),
    }


def main(
    store: Annotated[Path, typer.Option(help="The bundle store with the bundles to measure.")] = ROOT / "bundles",
    pose_data: Annotated[
        Path | None, typer.Option(help="Folder with the photographs of pose; without it pose is left out.")
    ] = None,
    resplits: Annotated[
        int, typer.Option(min=2, help="Number of splits of each pool into calibration and test.")
    ] = 4000,
    draws: Annotated[int, typer.Option(min=2, help="Calibration sets for selective risk.")] = 10_000,
    out: Annotated[Path, typer.Option(help="Folder for guarantees.json and guarantees.md.")] = RESULTS,
) -> None:
    """Measures, prints the table and writes the results."""
    bundles = shipped(store, pose_data)
    tests = {name: one.pool("test") for name, one in bundles.items()}
    pools = {"synthetic": (synthetic_pool(), synthetic_pool())}
    pools |= {name: (one.pool("calibration", "test"), tests[name]) for name, one in bundles.items()}
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.calibration.guarantees --pose-data DIR --resplits {resplits} --draws {draws}",
        "resplits": resplits,
        "calibration_sources": CALIBRATION_SIZE,
        "pools": {name: dict(_measured(name, *pool, resplits, draws)) for name, pool in pools.items()},
        "shipped": {name: _one_draw(one, tests[name]) for name, one in bundles.items()},
        "software": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }
    text = markdown(record)
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (out / "guarantees.json").write_bytes(orjson.dumps(record, option=options))
    (out / "guarantees.md").write_text(text)


def _measured(name: str, pool: Pool, population: Pool, resplits: int, draws: int) -> Iterator[tuple[str, Any]]:
    loss = pool.data.loss
    found = promises(loss)
    if pool.data.size == pool.data.scores.size:
        found.pop(ONE_VIEW)  # there is only one view
    yield "unit", loss.unit
    yield (
        "marginal",
        {title: marginal(pool, promise, resplits) for title, promise in track(found.items(), f"On average, {name}")},
    )
    yield "selective", selective(population, 0.5 * loss.failure_level, draws)


def _one_draw(one: Shipped, test: Pool) -> dict[str, Any]:
    """The operating points of the real calibration split, and their effect on the test split."""
    calibration, provenance = one.pool("calibration"), read_manifest(one.bundle).provenance
    found = operating_points(calibration.data, calibration.grid)
    rows = {}
    for name, point in found.points.items():
        verdict = flags(point, test.data)
        missed, failed = missed_share(test.data, verdict)
        rows[name] = {
            "level": point.level,
            "score_threshold": point.score_threshold,
            "ood_threshold": point.ood_threshold,
            "flagged": float(verdict.mean()),
            "missed_of_failures": missed / failed,
            "joint_risk": passed_loss(test.data, verdict)[0] / test.data.size,
            "selective_risk": _risk(test.data, ~verdict)[0],
        }
    return {
        "bundle": "/".join(one.bundle.parts[-2:]),
        "data_fingerprint": provenance.data_fingerprint,
        "points": rows,
        "refused": found.refused,
        "largest_loss": float(calibration.data.losses.max()),
    }


if __name__ == "__main__":
    typer.run(main)
