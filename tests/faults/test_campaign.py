"""The short form of the fault campaign; the long one is `python -m tests.faults.campaign`."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 1000  # of the whole campaign; each chapter has its share of them
# What must hold always. The others kill a server whose appendfsync is everysec, which may lose a label that it
# confirmed within its last seconds, or fill a disk or a memory, where a journal needs more room by hand: their
# findings stand in benchmarks/queue/results/campaign.txt until labels are journalled too.
CHAPTERS = (
    "service_killed",
    "redis_killed_always",
    "redis_stalled",
    "client_killed",
    "leases_abandoned",
    "two_replicas",
)


@pytest.mark.slow
def test_whatever_is_killed_or_stopped_every_accepted_sample_is_accounted_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "campaign.json"
    only = [part for chapter in CHAPTERS for part in ("--only", chapter)]
    size = ["--samples", str(SAMPLES), "--times", "0.02", "--at-once", "4", "--out", str(results)]
    command = [sys.executable, "-m", "tests.faults.campaign", *only, *size]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = orjson.loads(results.read_bytes())
    assert found["problems"] == []
    assert {chapter["name"] for chapter in found["chapters"]} == set(CHAPTERS)
    assert found["ids_checked"] >= SAMPLES // 2
    with capsys.disabled():
        sys.stdout.write(f"\n{done.stdout.splitlines()[-1]}\n")
