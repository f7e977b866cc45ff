"""The README keeps its word: its table is the benchmark's, its files and commands exist."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_table_is_the_one_that_the_benchmark_wrote() -> None:
    written = rows((REPOSITORY / "benchmarks/results/objectives.md").read_text())
    shown = rows(README)
    assert len(shown) >= 8
    assert shown == written[: len(shown)]


def test_every_link_leads_to_a_file() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_every_make_target_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"(?:`|\n)make ([a-z]+)", README))
    assert {"run", "test", "demo", "bench"} <= targets
    assert [target for target in targets if f"\n{target}: " not in makefile] == []
