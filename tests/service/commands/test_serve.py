"""`losscast serve` in processes of its own, as users start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("commands")


def serve(*arguments: str) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")}
    command = [sys.executable, "-m", "losscast", "serve", *arguments]
    environment = {**own, "COLUMNS": "300", "NO_COLOR": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bundles", "nowhere"], "set LOSSCAST_MODEL or LOSSCAST_BUNDLES"),
        (["--host", "0.0.0.0"], "set LOSSCAST_API_KEYS"),  # noqa: S104 - what must be refused
        (["--provider", "tpu"], "LOSSCAST_PROVIDER: Input should be 'cpu' or 'gpu'"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(arguments: list[str], message: str) -> None:
    result = serve(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("losscast: ")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(service_url: str, tiny_store: Path) -> None:
    port = service_url.rsplit(":", 1)[1].rstrip("/")
    result = serve("--port", port, "--bundles", str(tiny_store), "--model", "tiny")
    assert result.stderr == (
        f"losscast: cannot bind to 127.0.0.1:{port} (Address already in use): "
        "choose another with --port or LOSSCAST_PORT\n"
    )
    assert result.returncode == 1
