"""docs/queue.md shows what the benchmark wrote."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_are_those_of_the_benchmark() -> None:
    written = (ROOT / "benchmarks/labelling/results/queue.md").read_text().strip()
    assert written
    assert written in (ROOT / "docs/queue.md").read_text()
