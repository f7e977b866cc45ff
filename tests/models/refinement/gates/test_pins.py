"""The user's golden images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.contract.gate_report import GateResult
from models.refinement.gates.material import Material
from models.refinement.gates.pins import PinsError, pins
from tests.models.refinement.gates.conftest import TinyWorld
from tests.models.refinement.snapshots import png


def _ask(world: TinyWorld, content: Any, image: bytes | None = None) -> GateResult:
    folder = world.root / "pins"
    folder.mkdir()
    (folder / "door.png").write_bytes(png(np.zeros((16, 16, 1), np.uint8)) if image is None else image)
    (folder / "pins.json").write_text(json.dumps(content))
    live = world.version("live")
    return pins(Material(world.inputs(live, live, pins=folder)))


def _pin(expected: list[Any], tolerance: float = 0.5) -> dict[str, Any]:
    return {"pins": [{"image": "door.png", "expected": expected, "tolerance": tolerance}]}


def test_a_prediction_within_the_tolerance_keeps_its_pin(world: TinyWorld) -> None:
    """The image is twice the canvas, so that the point (2, 2) of the canvas is (4, 4) of the image."""
    assert _ask(world, _pin([[4.2, 4], None])).outcome == "passed"


def test_a_prediction_beyond_it_is_named(world: TinyWorld) -> None:
    answer = _ask(world, _pin([[4, 4], [13, 12]]))
    assert answer.outcome == "failed"
    assert "door.png by 0.5" in answer.sentence


@pytest.mark.parametrize(
    "content", [{}, {"pins": []}, _pin([[1, 2]]), _pin([1.0, 2.0]), _pin([[1, 2], None], 0), {"pins": "door"}]
)
def test_pins_that_are_not_as_they_should_be_are_refused_in_one_line(world: TinyWorld, content: Any) -> None:
    with pytest.raises(PinsError, match=r"pins\.json"):
        _ask(world, content)


def test_an_image_that_cannot_be_read_is_named(world: TinyWorld) -> None:
    with pytest.raises(PinsError, match=r"door\.png cannot be read as an image"):
        _ask(world, _pin([[4, 4], None]), b"gone")


def test_a_folder_without_pins_is_refused(world: TinyWorld, tmp_path: Path) -> None:
    live = world.version("live")
    with pytest.raises(PinsError, match=r"pins\.json cannot be read"):
        pins(Material(world.inputs(live, live, pins=tmp_path)))
