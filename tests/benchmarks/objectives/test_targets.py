"""A small run of the experiment on targets agrees with docs/objectives.md; the page shows the committed figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.objectives.targets import NAMES, Places, _markdown, figures, functions, learn

REPOSITORY = Path(__file__).resolve().parents[3]
RESULTS = REPOSITORY / "benchmarks" / "objectives" / "results"
OF_THE_MEAN = [name for name in NAMES if name.startswith(("weighted", "listwise", "gamma")) or "weighted" in name]


def record() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / "targets.json").read_text())
    return content


def test_objectives_of_the_mean_find_the_mean_where_learning_loss_pp_does_not() -> None:
    places, rng = Places.grid(), np.random.default_rng(0)
    train, test = places.draw(rng, 4096), places.draw(rng, 4096)
    learned = {name: learn(functions()[name], train, seed=0, epochs=4) for name in ("listwise", "learning_loss_pp")}
    of_mean, of_share = (figures(places, learned[name], *test) for name in ("listwise", "learning_loss_pp"))
    assert of_mean["rank_of_mean"] > 0.95 > of_share["rank_of_mean"] + 0.05
    assert of_mean["aurc"] < of_share["aurc"] - 0.03
    assert of_mean["rank_correlation"] < of_share["rank_correlation"]


def test_the_committed_figures_say_the_same() -> None:
    measured = record()["measured"]
    assert len(OF_THE_MEAN) == 5
    best = np.mean([row["aurc"] for row in measured["log E[l]"]])
    for name in OF_THE_MEAN:
        assert np.mean([row["aurc"] for row in measured[name]]) < best + 0.005
        assert min(row["rank_of_mean"] for row in measured[name]) > 0.97


def test_the_committed_table_and_the_page_show_the_committed_figures() -> None:
    table = _markdown(record())
    assert (RESULTS / "targets.md").read_text() == table
    page = (REPOSITORY / "docs" / "objectives.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert all(row in page for row in rows[: len(NAMES) + 4])


def test_the_picture_is_small() -> None:
    assert (RESULTS / "targets.png").stat().st_size < 200_000
