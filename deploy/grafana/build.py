"""Writes the dashboards as JSON for Grafana: run `python -m deploy.grafana.build` after every change of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.grafana import detection, labelling, service

FOLDER = Path(__file__).parent / "dashboards"


def boards() -> Mapping[str, dict[str, Any]]:
    """The dashboards by file name."""
    return {"service.json": service.build(), "detection.json": detection.build(), "labelling.json": labelling.build()}


def text_of(dashboard: Mapping[str, Any]) -> str:
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in boards().items():
        (FOLDER / name).write_text(text_of(dashboard))


if __name__ == "__main__":
    main()
