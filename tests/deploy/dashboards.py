"""The dashboards, their panels and their queries, for tests."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.grafana.build import boards

# The choices of a viewer who chose nothing. Rates have a long window, so that slow tests still see the traffic in it.
CHOICES = {"instance": ".*", "model": ".*", "__rate_interval": "10m"}
BOARDS = boards()


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


def queries(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(panel and query, expression with its variables chosen)."""
    for panel in panels(board):
        for target in panel["targets"]:
            expression = re.sub(r"\$(\w+)", lambda found: CHOICES[found[1]], target["expr"])
            yield f"{panel['title']} {target['refId']}", expression
