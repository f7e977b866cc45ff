"""Every page of the documentation points to files that exist."""

import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
ROOMS = "service|models|bundles|deploy|demo|benchmarks|docs|tests"
PATH = re.compile(rf"(?<![\w/.~$-])((?:{ROOMS})/[\w./-]*\w\.(?:py|lua|md|json|txt|ya?ml|png|onnx|pbtxt))\b")
MODULE = re.compile(r"`((?:service|models|benchmarks|tests)(?:\.\w+)+)")
EXAMPLES = {"docs/decisions/NNNN-title.md"}
LOGGERS = {"service.access"}


@cache
def anchors(page: Path) -> set[str]:
    """Names of the page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def exists(module: str) -> bool:
    """Whether the dotted name is a module, a package, or a name inside of a module."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        place = REPOSITORY.joinpath(*parts[:end])
        if place.is_dir():
            return end == len(parts)
        if (source := place.with_suffix(".py")).exists():
            return all(re.search(rf"\b{re.escape(name)}\b", source.read_text()) for name in parts[end:])
    return False


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_every_file_and_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    paths, modules = set(PATH.findall(text)) - EXAMPLES, set(MODULE.findall(text)) - LOGGERS
    assert [path for path in sorted(paths) if not (REPOSITORY / path).exists()] == []
    assert [name for name in sorted(modules) if not exists(name)] == []
