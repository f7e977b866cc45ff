"""A small run of the benchmark of promises keeps them, and its committed results belong to the shipped bundles."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.calibration.guarantees import marginal, promises, selective
from benchmarks.calibration.pools import Pool, shipped, synthetic_pool
from benchmarks.calibration.report import markdown
from models.contract.bundle import read_manifest

REPOSITORY = Path(__file__).resolve().parents[3]
RESULTS = REPOSITORY / "benchmarks" / "calibration" / "results"


def record() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / "guarantees.json").read_text())
    return content


def assert_kept(pool: Pool) -> None:
    for name, promise in promises(pool.data.loss).items():
        row = marginal(pool, promise, resplits=100)
        assert row["mean"] <= row["level"] + row["two_se"], (name, row)
        assert row["mean"] >= 0.8 * row["level"], (name, row)
    row = selective(pool, 0.5 * pool.data.loss.failure_level, draws=200)
    assert row["violations"] <= row["delta"] + row["two_se"], row
    assert row["violations_of_plug_in"] > row["delta"] + row["two_se"], row
    assert row["mean_coverage"] > 0.6


def test_promises_are_kept_on_a_synthetic_pool() -> None:
    assert_kept(synthetic_pool(sources=1000))


@pytest.mark.slow
def test_promises_are_kept_on_the_answers_of_the_shipped_bundle() -> None:
    assert_kept(shipped(REPOSITORY / "bundles", None)["digits"].pool("calibration", "test"))


def test_the_committed_results_keep_every_promise() -> None:
    for name, pool in record()["pools"].items():
        for row in pool["marginal"].values():
            assert row["mean"] <= row["level"] + row["two_se"], (name, row)
        row = pool["selective"]
        assert row["draws"] == 10_000
        assert row["violations"] <= row["delta"] + row["two_se"], (name, row)


def test_the_committed_results_are_those_of_the_shipped_bundles_and_their_data() -> None:
    made = record()["shipped"]
    assert set(made) == {"digits", "pose"}
    for one in made.values():
        manifest = read_manifest(REPOSITORY / "bundles" / one["bundle"])
        assert one["data_fingerprint"] == manifest.provenance.data_fingerprint
        assert {name: point["score_threshold"] for name, point in one["points"].items()} == pytest.approx(
            {name: point.score_threshold for name, point in manifest.operating_points.items()}, abs=1e-5
        )


def test_the_committed_table_shows_the_committed_figures() -> None:
    assert (RESULTS / "guarantees.md").read_text() == markdown(record())


@pytest.mark.parametrize("model", ["digits", "pose"])
def test_the_page_for_users_states_the_committed_figures(model: str) -> None:
    page = (REPOSITORY / "docs" / "guarantees.md").read_text()
    column = {"pose": 3, "digits": 4}[model]
    cells = {row.split("|")[1].strip(): row.split("|")[column] for row in page.splitlines() if row.startswith("| `")}
    measured, risk = record()["pools"][model], record()["pools"][model]["selective"]
    for point, name in (("`budget`", "flag budget"), ("`miss_rate`", "miss rate")):
        row = measured["marginal"][name]
        assert f"{100 * row['level']:.1f} % → {100 * row['mean']:.1f} %" in cells[point]
    joint = measured["marginal"]["joint risk"]
    assert f"{joint['level']:g} {measured['unit']} → {joint['mean']:.3f}" in cells["`joint_risk`"]
    broken = f"{100 * risk['delta']:.1f} % → {100 * risk['violations']:.1f} % of the sets, {risk['mean_risk']:.3f}"
    assert f"{risk['level']:g} {measured['unit']}, broken by {broken}" in cells["`selective_risk`"]


def test_the_page_for_users_states_what_no_guarantee_costs() -> None:
    plug_in = record()["pools"]["digits"]["selective"]["violations_of_plug_in"]
    assert f"the promise for {100 * plug_in:.1f} %" in (REPOSITORY / "docs" / "guarantees.md").read_text()
