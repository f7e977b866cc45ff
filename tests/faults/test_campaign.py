"""The short form of the fault campaign; the long one is `python -m tests.faults.campaign`."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.faults.campaign.chapters import CHAPTERS

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 1000  # of the whole campaign; each chapter has its share of them


@pytest.mark.slow
def test_every_accepted_sample_is_accounted_for_after_kills_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "campaign.json"
    size = ["--samples", str(SAMPLES), "--times", "0.02", "--at-once", "4", "--out", str(results)]
    command = [sys.executable, "-m", "tests.faults.campaign", *size]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = orjson.loads(results.read_bytes())
    assert found["problems"] == []
    assert {chapter["name"] for chapter in found["chapters"]} == {chapter.__name__ for chapter in CHAPTERS}
    assert found["ids_checked"] >= SAMPLES // 2
    with capsys.disabled():
        sys.stdout.write(f"\n{done.stdout.splitlines()[-1]}\n")
