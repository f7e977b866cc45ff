"""The README is short and true: its table is the benchmark's, its files and commands exist."""

import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
DETECTION = (REPOSITORY / "docs" / "detection.md").read_text()
RESULTS = REPOSITORY / "benchmarks" / "detection" / "results"
PUBLISHED = (RESULTS / "detection.md").read_text()
WORDS = 700


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def cells_under(heading: str, page: str) -> list[list[str]]:
    """The heading and the rows of the table that it begins."""
    lines = page[page.index(heading) :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if not line.startswith("|---")]


def test_it_has_at_most_700_words() -> None:
    assert len(README.split()) <= WORDS


def test_its_table_has_three_rows_of_the_published_comparison() -> None:
    published = {cells[0]: cells for cells in cells_under("| score | 1 - nAURC", PUBLISHED)}
    shown = cells_under("| score | 1 - nAURC", README)
    columns = [published["score"].index(name) for name in shown[0]]
    assert len(shown) == 4
    for row in shown:
        assert row == [published[row[0]][column] for column in columns]


def test_the_rows_are_the_shipped_score_its_best_rival_of_another_kind_and_random() -> None:
    _, (first, *_), (second, *_), (third, *_) = cells_under("| score | 1 - nAURC", README)
    record = json.loads((RESULTS / "detection.json").read_text())
    reached = {name: figures["one_minus_naurc"]["mean"] for name, figures in record["figures"].items()}
    shipped = record["shipped"]
    others = {name: value for name, value in reached.items() if not name.startswith((shipped, "oracle"))}
    assert first == f"**{shipped}**"
    assert second == max(others, key=lambda name: others[name])
    assert third == "random"


def test_the_digits_table_of_the_detection_page_is_the_one_that_the_benchmark_wrote() -> None:
    written = rows((REPOSITORY / "benchmarks/objectives/results/objectives.md").read_text())
    shown = rows(DETECTION[DETECTION.index("| head | objective |") :].partition("\n\n")[0])
    assert len(shown) >= 8
    assert shown == written[: len(shown)]


def test_every_make_target_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = {page: set(re.findall(r"(?:`|\n)make ([a-z]+)", page)) for page in (README, DETECTION)}
    assert {"run", "test", "demo"} <= targets[README]
    assert "bench" in targets[DETECTION]
    assert [target for named in targets.values() for target in named if f"\n{target}: " not in makefile] == []
