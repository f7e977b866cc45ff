"""The drift benchmark: its sequences and worlds are what they say, it runs in small, and the page shows its results."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.drift.conditions import CHANGES, INDEPENDENT, QUIET, SMALL_CYCLE, START_S, VALUES
from benchmarks.drift.report import false_alerts, tables
from benchmarks.drift.rivals import NAMES, WINDOW, rivals
from benchmarks.drift.running import run_change, run_quiet
from benchmarks.drift.sequences import Autoregressive, Clips, Independent
from benchmarks.drift.worlds import LOG_SD, References

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/drift/results"
PAGE = ROOT / "docs/drift-measured.md"


def record() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / "drift.json").read_text())
    return content


def test_sequences_are_standard_normal_and_go_on_where_they_were() -> None:
    rng = np.random.default_rng(0)
    for sequence in (Independent(rng, (40, 2)), Autoregressive(rng, (40, 2)), Clips(rng, (40, 2), 3)):
        values = np.concatenate([sequence.draw(700) for _ in range(4)], axis=-1)
        assert values.shape == (40, 2, 2800)
        assert values.mean() == pytest.approx(0, abs=0.06)
        assert values.std() == pytest.approx(1, abs=0.05)
        if isinstance(sequence, Autoregressive):
            assert (values[..., 1:] * values[..., :-1]).mean() == pytest.approx(0.9, abs=0.05)


def test_a_clip_repeats_its_value_five_to_thirty_times_and_a_header_leaves_few_of_them() -> None:
    values = Clips(np.random.default_rng(1), (1, 1)).draw(5000)[0, 0]
    lengths = np.diff(np.flatnonzero(np.diff(values)))
    assert set(lengths.tolist()) == set(range(5, 31))
    thinned = Clips(np.random.default_rng(1), (1, 1), every=10).draw(5000)[0, 0]
    assert np.diff(np.flatnonzero(np.diff(thinned))).max() <= 4


def test_counts_and_values_of_a_world_agree() -> None:
    """The same traffic drawn as counts and as values: shares of bins, losses, and statistics of dependence."""
    steps = []
    for world in (replace(INDEPENDENT, per_s=100.0), replace(VALUES, per_s=100.0)):
        traffic = world.traffic(np.random.default_rng(2), 20, 3, lambda _: np.array([0.4, 0.0, 0.0]))
        steps.append((traffic.step(START_S, 300.0), traffic.references))
    assert [step.counts.sum(axis=-1).min() for step, _ in steps] == [30_000, 30_000]
    shares = [step.counts.sum(axis=0) / step.counts.sum(axis=(0, 2))[:, None] for step, _ in steps]
    assert shares[0] == pytest.approx(shares[1], abs=0.003)
    losses = [step.effects.sum(axis=0) / step.effects[:, 0].sum() for step, _ in steps]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0][1] == pytest.approx(np.exp(0.4 * LOG_SD + LOG_SD**2 / 2), rel=0.01)
    statistics = [step.statistics.mean(axis=(0, 1)) for step, _ in steps]
    assert statistics[0] == pytest.approx(statistics[1], rel=0.12)


def test_a_reference_of_a_world_with_a_rhythm_comes_from_all_hours() -> None:
    references = References.draw(np.random.default_rng(3), 40, SMALL_CYCLE.rhythm(3))
    ranks = np.cumsum(references.bins.alpha)[:-1] / references.bins.alpha.sum()
    middle = np.abs(ranks - 0.2).argmin()
    assert references.edges[:, 2, middle].mean() == pytest.approx(-0.842 * np.sqrt(1.5), abs=0.1)
    assert references.edges[:, 0, middle].mean() == pytest.approx(-0.842 * np.sqrt(1 + 0.1**2 / 2), abs=0.1)


def test_rivals_ring_when_scores_move_and_the_dummy_always() -> None:
    rng = np.random.default_rng(4)
    ones = rivals(np.sort(rng.standard_normal(400)))
    for scores in (rng.standard_normal(25 * WINDOW), rng.standard_normal(4 * WINDOW) + 1.0):
        for one in ones.values():
            one.update(scores)
    assert len(ones["always alarm"].alarms) == 29
    for who in NAMES:
        assert any(image > 25 * WINDOW for image in ones[who].alarms), who
    assert [image for image in ones["ADWIN"].alarms if image <= 25 * WINDOW] == []


def test_quiet_days_and_changes_are_counted_as_they_are() -> None:
    quiet = replace(QUIET["independent, 1/s"], deployments=3, days=1, step_s=600.0)
    found = run_quiet("a", quiet, lambda _: None)
    assert (found["days"], found["alert_days"], found["warning_days"]) == (3, 0, 0)
    change = replace(CHANGES["+.5 sd, independent, 1/s"], score=1.5, deployments=3, horizon=300, rivals=1)
    found = run_change("b", change, lambda _: None)
    assert found["alert"]["found"] == 1
    assert 0 < found["alert"]["quartiles"][1] <= 60
    assert set(found["rivals"]) == set(NAMES)


@pytest.mark.slow
def test_a_tiny_run_writes_all_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "drift.json"
    done = {name: one for name, one in record().items() if name not in {"AR, 10/s", "mismatch, 10/s"}}
    file.write_text(json.dumps(done))
    options = ["--tiny", "--out", str(tmp_path), "--picture", str(tmp_path / "drift.png")]
    command = [sys.executable, "-m", "benchmarks.drift", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    made = json.loads(file.read_text())
    assert set(made) == set(QUIET) | set(CHANGES)
    assert made["clips, 1/s"] == done["clips, 1/s"]
    assert made["AR, 10/s"]["deployments"] == 4
    assert (tmp_path / "drift.md").read_text().count("\n|---|") == 4
    assert (tmp_path / "drift.png").stat().st_size < 200_000


def test_a_tiny_run_is_never_taken_for_a_result() -> None:
    command = [sys.executable, "-m", "benchmarks.drift", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "give --out and --picture other places" in done.stderr


def test_the_committed_results_are_of_the_conditions_that_are_described() -> None:
    for name, one in record().items():
        condition = (QUIET | CHANGES)[name]
        made = one["condition"]
        assert made["world"]["title"] == condition.world.title, name
        assert made["world"]["per_s"] == condition.world.per_s, name
        assert one["deployments"] == condition.deployments, name
    assert set(record()) == set(QUIET) | set(CHANGES)


def test_the_committed_results_meet_the_targets() -> None:
    """At most one day with a false alert of 30, and half a standard deviation within 300 images, half of the time."""
    results = record()
    for name in ("independent, 1/s", "independent, 10/s", "independent, 100/s", "AR, 1/s", "AR, 10/s", "clips, 1/s"):
        assert false_alerts(results[name]) <= 1, name
    for name in ("clips with header, 1/s", "small cycle, 10/s"):
        assert false_alerts(results[name]) <= 1, name
    for name in ("+.5 sd, independent, 1/s", "+.5 sd, independent, 10/s"):
        assert results[name]["alert"]["quartiles"][1] <= 300, name
        assert results[name]["alert"]["found"] == 1, name


def test_the_tables_and_the_page_show_the_committed_results() -> None:
    text = tables(record())
    assert (RESULTS / "drift.md").read_text() == text
    page = PAGE.read_text()
    assert all(table.strip() in page for table in text.split("\n\n"))


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs/drift.png").stat().st_size < 200_000
