"""The benchmark of the objectives runs, and its committed results belong to the bundle that ships."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.objectives.heads import OBJECTIVES, TITLES, _markdown, main
from models.contract.bundle import read_manifest

REPOSITORY = Path(__file__).resolve().parents[3]
RESULTS = REPOSITORY / "benchmarks" / "objectives" / "results"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.objectives.heads", "--tiny", "--seeds", "5", *options]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "objectives.json").read_text())
    return content


@pytest.mark.slow
def test_a_tiny_run_writes_every_figure_of_every_head_and_seed(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    made = record(tmp_path)
    assert set(made) == set(record(RESULTS))
    assert set(made["heads"]) == {f"{head} {one}" for head in made["heads_compared"] for one in OBJECTIVES}
    for seeds in made["heads"].values():
        assert len(seeds) == 5
        for figures in seeds:
            assert set(figures) == set(TITLES)
            best, random = made["ends"]["oracle"]["aurc"], made["ends"]["random order"]["aurc"]
            assert best < figures["aurc"] < 1.5 * random
    assert (tmp_path / "objectives.md").read_text() in done.stdout


def test_a_tiny_run_is_never_taken_for_a_result() -> None:
    before = record(RESULTS)
    with pytest.raises(SystemExit, match="give --out another folder"):
        main(tiny=True)
    assert record(RESULTS) == before


def test_the_committed_results_are_those_of_the_shipped_bundle_and_its_data() -> None:
    made = record(RESULTS)
    provenance = read_manifest(REPOSITORY / "bundles" / made["trunk"]).provenance
    assert made["data_fingerprint"] == provenance.data_fingerprint


def test_the_committed_table_shows_the_committed_figures() -> None:
    assert (RESULTS / "objectives.md").read_text() == _markdown(record(RESULTS))
