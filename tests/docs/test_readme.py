"""The README keeps its word: its table is the benchmark's, its files and commands exist."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
PUBLISHED = (REPOSITORY / "benchmarks" / "detection" / "results" / "detection.md").read_text()


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_digits_table_is_the_one_that_the_benchmark_wrote() -> None:
    written = rows((REPOSITORY / "benchmarks/objectives/results/objectives.md").read_text())
    shown = rows(README[README.index("| head |") :])
    assert len(shown) >= 8
    assert shown == written[: len(shown)]


def test_the_pose_table_is_that_of_the_published_comparison() -> None:
    published = {cells[0]: cells for cells in cells_under("| score | 1 - nAURC", PUBLISHED)}
    shown = cells_under("| score | 1 - nAURC", README)
    columns = [published["score"].index(name) for name in shown[0]]
    assert len(shown) > 5
    for row in shown:
        assert row == [published[row[0]][column] for column in columns]


def cells_under(heading: str, page: str) -> list[list[str]]:
    """The heading and the rows of the table that it begins."""
    lines = page[page.index(heading) :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if not line.startswith("|---")]


def test_every_link_leads_to_a_file() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_every_make_target_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"(?:`|\n)make ([a-z]+)", README))
    assert {"run", "test", "demo", "bench"} <= targets
    assert [target for target in targets if f"\n{target}: " not in makefile] == []
