"""docs/metrics.md lists every metric of a running service, and no other."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("monitored")

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*)\| (.+?) \| (.+?) \|$", re.MULTILINE)
SUFFIX = re.compile(r"_(bucket|sum|count)$")
OF_THE_FORMAT = {"le", "quantile"}


class Family(NamedTuple):
    kind: str
    labels: frozenset[str]


@pytest.fixture
def documented(repository: Path) -> dict[str, Family]:
    rows = ROW.findall((repository / "docs/metrics.md").read_text())
    assert all(unit.strip() and meaning.endswith(".") for *_, unit, meaning in rows)
    return {name: Family(kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels, *_ in rows}


def exposed(text: str) -> Mapping[str, Family]:
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    labels = defaultdict[str, set[str]](set)
    for name, given in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        family = name if name in kinds else SUFFIX.sub("", name)
        labels[family] |= set(re.findall(r'(\w+)="', given)) - OF_THE_FORMAT
    return {name: Family(kind, frozenset(labels[name])) for name, kind in kinds.items()}


@pytest.mark.slow
def test_the_guide_lists_every_metric_and_no_other(documented: dict[str, Family], monitored: Any) -> None:
    text = httpx.get(f"{monitored.url}/metrics").text
    assert exposed(text) == documented


@pytest.mark.slow
def test_every_metric_has_our_prefix_and_a_help(monitored: Any) -> None:
    text = httpx.get(f"{monitored.url}/metrics").text
    names = re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)
    helps = dict(re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE))
    assert set(helps) == set(names)
    assert all(name.startswith("losscast_") for name in names)
    assert not re.search(r"_(ms|milliseconds|percent|kb|mb)(_|\b)", " ".join(names))  # base units only
