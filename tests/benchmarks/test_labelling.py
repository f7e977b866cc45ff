"""The queue's benchmark runs in its tiny form, whose figures mean nothing."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_benchmark_measures_every_part_and_draws_its_plot(tmp_path: Path) -> None:
    places = ["--out", str(tmp_path), "--picture", str(tmp_path / "queue.png")]
    command = [sys.executable, "-m", "benchmarks.labelling", "--tiny", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = orjson.loads((tmp_path / "queue.json").read_bytes())
    assert set(results) == {"drain", "lease_and_label", "scaling", "flagged"}
    assert "| put | " in (tmp_path / "queue.md").read_text()
    assert (tmp_path / "queue.png").read_bytes().startswith(b"\x89PNG")
