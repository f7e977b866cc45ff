"""The command line as its users type it, against a real service over HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import stamina

from service.commands.predict import _short
from service.schemas.predictions import PredictionFields

Grey = Callable[..., bytes]
COMMAND = [sys.executable, "-m", "losscast"]


def environment(**changes: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")}
    return {**own, "COLUMNS": "300", "NO_COLOR": "1", "LOSSCAST_AUDIT_RATE": "0", **changes}


def losscast(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(**changes), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def url(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of this module's own."""
    folder = tmp_path_factory.mktemp("cli")
    log = folder / "log"
    options = ["--port", "0", "--model", "tiny", "--bundles", str(tiny_store), "--state", str(folder / "state")]
    with log.open("w") as file:
        process = subprocess.Popen([*COMMAND, "serve", *options], env=environment(), stdout=file, stderr=file)
    try:
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
            with attempt:
                assert "serves tiny on " in log.read_text(), log.read_text()
        yield log.read_text().split("serves tiny on ")[1].split()[0]
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture
def photo(tmp_path: Path, grey: Grey) -> Callable[[float], Path]:
    def write(brightness: float) -> Path:
        path = tmp_path / f"{brightness}.png"
        path.write_bytes(grey(brightness))
        return path

    return write


def test_predict_prints_a_row_for_each_image(url: str, photo: Callable[[float], Path]) -> None:
    result = losscast("predict", str(photo(0.2)), str(photo(0.9)), "--url", url)
    assert result.returncode == 0, result.stderr
    assert "passed" in result.stdout
    assert "lossy: predicted_loss" in result.stdout
    assert "pixels" in result.stdout


def test_of_many_keypoints_the_table_names_the_one_that_is_expected_to_be_worst() -> None:
    names = [f"joint_{number}" for number in range(14)]
    losses = [0.25] * 14
    many = PredictionFields(kind="keypoints", names=names, values=[[1.0, 2.0]] * 14, predicted_loss=None)
    assert _short(many) == "14 keypoints"
    losses[9] = 0.612
    assert _short(many.model_copy(update={"predicted_loss": losses})) == "14 keypoints, worst joint_9 (0.61)"


def test_predict_prints_json_lines_and_names_the_files_that_failed(
    url: str, photo: Callable[[float], Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    result = losscast("predict", str(photo(0.2)), str(broken), "--json", "--url", url)
    good, bad = map(json.loads, result.stdout.splitlines())
    assert result.returncode == 1
    assert good["verdict"]["lossy"] is False
    assert bad["file"] == str(broken)
    assert "not a JPEG, PNG or WebP" in bad["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", __file__, "--url", "http://127.0.0.1:1"], "is `losscast serve` running there?"),
        (["serve", "--bundles", "nowhere"], "set LOSSCAST_MODEL or LOSSCAST_BUNDLES"),
        (["serve", "--host", "0.0.0.0"], "set LOSSCAST_API_KEYS"),  # noqa: S104 - what must be refused
        (["serve", "--provider", "tpu"], "LOSSCAST_PROVIDER: Input should be 'cpu' or 'gpu'"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(arguments: list[str], message: str) -> None:
    result = losscast(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("losscast: ")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(url: str, tiny_store: Path) -> None:
    port = url.rsplit(":", 1)[1]
    result = losscast("serve", "--port", port, "--bundles", str(tiny_store), "--model", "tiny")
    assert result.stderr == (
        f"losscast: cannot bind to 127.0.0.1:{port} (Address already in use): "
        "choose another with --port or LOSSCAST_PORT\n"
    )
    assert result.returncode == 1
