"""The benchmark of the promises in small: they are kept, and its committed results are those of what ships."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.guarantees import Pool, digits_pool, marginal, promises, selective, synthetic_pool
from benchmarks.guarantees_report import markdown
from models.contract.bundle import read_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"


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
    assert_kept(digits_pool(REPOSITORY / "bundles" / "digits" / "1", ("calibration", "test")))


def test_the_committed_results_keep_every_promise() -> None:
    for name, pool in record()["pools"].items():
        for row in pool["marginal"].values():
            assert row["mean"] <= row["level"] + row["two_se"], (name, row)
        row = pool["selective"]
        assert row["draws"] == 10_000
        assert row["violations"] <= row["delta"] + row["two_se"], (name, row)


def test_the_committed_results_are_those_of_the_shipped_bundle_and_its_data() -> None:
    made = record()
    provenance = read_manifest(REPOSITORY / "bundles" / made["bundle"]).provenance
    assert made["data_fingerprint"] == provenance.data_fingerprint


def test_the_committed_table_shows_the_committed_figures() -> None:
    assert (RESULTS / "guarantees.md").read_text() == markdown(record())


def test_the_page_for_users_states_the_committed_figures() -> None:
    page = (REPOSITORY / "docs" / "guarantees.md").read_text()
    digits = record()["pools"]["digits"]
    for name in ("flag budget", "miss rate"):
        row = digits["marginal"][name]
        assert f"{100 * row['level']:.1f} % → {100 * row['mean']:.1f} %" in page
    assert f"3.2 px → {digits['marginal']['joint risk']['mean']:.2f} px" in page
    selective_row = digits["selective"]
    assert f"10.0 % → {100 * selective_row['violations']:.1f} % of the sets" in page
    assert f"the promise for {100 * selective_row['violations_of_plug_in']:.1f} %" in page
