import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from service.commands.predict import _short
from service.schemas.predictions import PredictionFields

pytestmark = pytest.mark.xdist_group("commands")

Grey = Callable[..., bytes]
Losscast = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def photo(tmp_path: Path, grey: Grey) -> Callable[[float], Path]:
    def write(brightness: float) -> Path:
        path = tmp_path / f"{brightness}.png"
        path.write_bytes(grey(brightness))
        return path

    return write


def test_it_prints_a_row_for_each_image(losscast: Losscast, photo: Callable[[float], Path]) -> None:
    result = losscast("predict", photo(0.2), photo(0.9))
    assert result.returncode == 0, result.stderr
    assert "passed" in result.stdout
    assert "lossy: predicted_loss" in result.stdout
    assert "pixels" in result.stdout


def test_for_many_keypoints_the_table_names_the_one_with_the_largest_predicted_loss() -> None:
    names = [f"joint_{number}" for number in range(14)]
    losses = [0.25] * 14
    many = PredictionFields(kind="keypoints", names=names, values=[[1.0, 2.0]] * 14, predicted_loss=None)
    assert _short(many) == "14 keypoints"
    losses[9] = 0.612
    assert _short(many.model_copy(update={"predicted_loss": losses})) == "14 keypoints, worst joint_9 (0.61)"


def test_it_prints_json_lines_and_names_the_files_that_failed(
    losscast: Losscast, photo: Callable[[float], Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    result = losscast("predict", photo(0.2), broken, "--json")
    good, bad = map(json.loads, result.stdout.splitlines())
    assert result.returncode == 1
    assert good["verdict"]["lossy"] is False
    assert bad["file"] == str(broken)
    assert "not a JPEG, PNG or WebP" in bad["error"]


def test_without_a_service_the_error_is_one_line_that_says_what_to_do(losscast: Losscast) -> None:
    result = losscast("predict", __file__, "--url", "http://127.0.0.1:1")
    assert (result.returncode, result.stdout) == (1, "")
    assert "is `losscast serve` running there?" in result.stderr
    assert result.stderr.startswith("losscast: ")
    assert result.stderr.count("\n") == 1
