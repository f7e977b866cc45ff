"""The simulated labels of the gates have the truth that their tables name, and the tables are those of the record."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.refinement import bounds
from benchmarks.refinement.gates import measure
from benchmarks.refinement.gates_report import markdown
from benchmarks.refinement.worlds import Change, World, better_tail, ruined, worse
from models.refinement.gates.paired import tail_contributions

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "refinement" / "results"
LOSSES = np.sort(np.random.default_rng(0).gamma(2.0, 2.0, 2000))


@pytest.mark.parametrize("change", [worse, ruined])
def test_a_worse_candidate_is_three_percent_worse(change: Change) -> None:
    rng = np.random.default_rng(0)
    means = [change(LOSSES, LOSSES, rng).mean() for _ in range(50)]
    assert np.mean(means) / LOSSES.mean() == pytest.approx(1.03, abs=0.002)


def test_a_better_tail_is_five_percent_better() -> None:
    changed = better_tail(LOSSES, LOSSES, np.random.default_rng(0))
    tails = [tail_contributions(losses, np.ones(losses.size)).mean() for losses in (LOSSES, changed)]
    assert tails[1] / tails[0] == pytest.approx(0.95, abs=0.002)


def test_live_and_candidate_have_the_real_losses_and_their_groups() -> None:
    pairs = World(LOSSES, 100, 0.9, group_size=2, weighted=True).labels(np.random.default_rng(0), 4000, worse)
    assert pairs.live.mean() == pytest.approx(LOSSES.mean(), rel=0.05)
    assert pairs.candidate.mean() == pytest.approx(1.03 * LOSSES.mean(), rel=0.05)
    assert pairs.group_count == 2000


def test_a_clearly_worse_candidate_is_never_promoted() -> None:
    row = measure(World(LOSSES, 200, 0.9), 200, lambda losses, known, rng: 1.3 * losses, rounds=20)  # noqa: ARG005 - a Change
    assert (row["promoted"], row["gain"], row["low"]) == (0, 0, 0)


def test_the_committed_page_is_that_of_the_record() -> None:
    record = orjson.loads((RESULTS / "gates.json").read_bytes())
    assert (RESULTS / "gates.md").read_text() == markdown(record)


def test_the_committed_page_of_bounds_is_that_of_its_record() -> None:
    record = orjson.loads((RESULTS / "bounds.json").read_bytes())
    assert (RESULTS / "bounds.md").read_text() == bounds.page(record["passed"], record["rounds"])


@pytest.mark.parametrize("kind", [0, 1])
def test_the_losses_that_bounds_are_compared_on_change_by_exactly_the_margin(kind: int) -> None:
    draw = list(bounds.kinds(LOSSES).values())[kind]
    excess = draw(np.random.default_rng(0), 400_000)
    assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(excess.size)


def test_at_most_five_percent_of_the_worse_candidates_were_promoted() -> None:
    record = orjson.loads((RESULTS / "gates.json").read_bytes())
    rows = [row for row in record["rows"] if "worse" in row["change"]]
    assert rows
    assert all(row["promoted"] <= 0.05 * record["rounds"] for row in rows)
