"""The dashboards are those that the code builds, complete for Grafana, and every query has data."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import stamina

from deploy.grafana.build import boards, text_of

pytestmark = pytest.mark.xdist_group("monitored")

PATIENCE_S = 60.0
CHOICES = {"instance": ".*", "model": ".*", "__rate_interval": "1m"}  # the choices of a viewer who chose nothing
BOARDS = boards()


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


def queries(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(panel and query, expression with its variables chosen)."""
    for panel in panels(board):
        for target in panel["targets"]:
            expression = re.sub(r"\$(\w+)", lambda found: CHOICES[found[1]], target["expr"])
            yield f"{panel['title']} {target['refId']}", expression


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    name: str = request.param
    return BOARDS[name]


def test_the_shipped_files_are_those_that_the_code_builds(repository: Path) -> None:
    folder = repository / "deploy/grafana/dashboards"
    assert sorted(path.name for path in folder.iterdir()) == sorted(BOARDS)
    for name, built in BOARDS.items():
        assert (folder / name).read_text() == text_of(built), "run python -m deploy.grafana.build"


def test_every_panel_says_what_it_shows_and_has_an_id_and_a_place_of_its_own(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_number_has_a_unit(board: dict[str, Any]) -> None:
    for panel in panels(board):
        if panel["type"] not in {"table", "state-timeline"}:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_data_sources_models_and_replicas_can_be_chosen(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "instance", "model"]
    assert variables["datasource"]["query"] == "prometheus"
    for variable in variables.values():
        assert variable["options"] == []  # null, which the SDK writes, is not what Grafana expects
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        names = [target["refId"] for target in panel["targets"]]
        assert all(names), panel["title"]
        assert len(names) == len(set(names)), panel["title"]
        for target in panel["targets"]:
            assert re.search(r"\$(instance|model)", target["expr"]), panel["title"]


def test_refusals_have_no_model_so_they_are_compared_with_the_answers_of_all_models(board: dict[str, Any]) -> None:
    refused = [expression for _, expression in queries(board) if "losscast_rejected_total" in expression]
    assert not [expression for expression in refused if "model=~" in expression]


def test_stacked_panels_count_each_image_once(board: dict[str, Any]) -> None:
    for panel in panels(board):
        custom = panel["fieldConfig"]["defaults"].get("custom") or {}
        if (custom.get("stacking") or {}).get("mode") == "normal":
            asked = " ".join(target["expr"] for target in panel["targets"])
            assert "losscast_drift_observations_total" not in asked, "not_finite are counted as well"


def test_boards_have_different_uids_and_link_to_each_other() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    for board in BOARDS.values():
        (link,) = board["links"]
        assert link["type"] == "dashboards"
        assert set(link["tags"]) <= set(board["tags"])


@pytest.mark.slow
def test_every_query_of_every_panel_has_data(board: dict[str, Any], monitored: Any) -> None:
    for where, expression in queries(board):
        assert monitored.prometheus.ask("/format_query", query=expression), where
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=PATIENCE_S, wait_max=0.5):
            with attempt:
                series = monitored.prometheus.now(expression)
                assert any(math.isfinite(float(one["value"][1])) for one in series), f"{where}: {expression}"


@pytest.mark.slow
def test_the_variables_offer_existing_values(board: dict[str, Any], monitored: Any) -> None:
    for variable in board["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
        assert found
        assert json.dumps(variable["query"]).count(variable["definition"]) == 1
        assert all(one["metric"][found[2]] for one in monitored.prometheus.now(found[1]))
