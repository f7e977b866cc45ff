"""One monitored service: dashboards have data, the guide lists its metrics, and drift raises an alert.

These tests are in one file so that one worker runs them and starts the service once.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import stamina

from benchmarks.monitoring import traffic
from tests.deploy.dashboards import BOARDS, queries

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
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


def test_the_guide_lists_every_metric_and_no_other(documented: dict[str, Family], monitored: Any) -> None:
    texts = [httpx.get(f"{url}/metrics").text for url in (monitored.url, monitored.refiner_url)]
    assert {name: family for text in texts for name, family in exposed(text).items()} == documented


def test_every_metric_has_our_prefix_and_a_help(monitored: Any) -> None:
    text = httpx.get(f"{monitored.url}/metrics").text
    names = re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)
    helps = dict(re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE))
    assert set(helps) == set(names)
    assert all(name.startswith("losscast_") for name in names)
    assert not re.search(r"_(ms|milliseconds|percent|kb|mb)(_|\b)", " ".join(names))  # base units only


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    name: str = request.param
    return BOARDS[name]


def test_every_query_of_every_panel_has_data(board: dict[str, Any], monitored: Any) -> None:
    for where, expression in queries(board):
        assert monitored.prometheus.ask("/format_query", query=expression), where
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=PATIENCE_S, wait_max=0.5):
            with attempt:
                series = monitored.prometheus.now(expression)
                assert any(math.isfinite(float(one["value"][1])) for one in series), f"{where}: {expression}"


def test_the_variables_offer_existing_values(board: dict[str, Any], monitored: Any) -> None:
    for variable in board["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
        assert found
        assert json.dumps(variable["query"]).count(variable["definition"]) == 1
        assert all(one["metric"][found[2]] for one in monitored.prometheus.now(found[1]))


def test_blurred_images_raise_an_alert_and_clean_ones_do_not(monitored: Any) -> None:
    assert monitored.clean.state == "stable"
    assert not monitored.early_alerts
    report, alert = monitored.blurred, monitored.alert
    assert report.state == "drift"
    assert "sharpness" in report.moved
    assert report.since is not None
    (evidence,) = monitored.prometheus.now('losscast_drift_evidence_log10{signal="all"}')
    assert float(evidence["value"][1]) > math.log10(100)
    assert alert["status"] == "firing"
    assert alert["labels"] == {"alertname": "LosscastDrift", "severity": "page", "model": traffic.MODEL}
    assert alert["annotations"]["runbook_url"] == "docs/runbook.md#losscastdrift"
