"""The dashboards are those that the code builds, and complete for Grafana."""

import re
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.build import text_of
from tests.deploy.dashboards import BOARDS, panels, queries


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
