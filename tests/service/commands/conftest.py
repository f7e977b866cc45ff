"""The command line as its users type it, against a real service over HTTP."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

Losscast = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def losscast(service_url: str) -> Losscast:
    """Runs `losscast ...` with the service's address and the annotator ada in its environment."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")}
    environment = {**own, "COLUMNS": "300", "NO_COLOR": "1", "LOSSCAST_URL": service_url, "LOSSCAST_ANNOTATOR": "ada"}

    def run(*arguments: object, **changes: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "losscast", *map(str, arguments)]
        return subprocess.run(
            command, env={**environment, **changes}, capture_output=True, text=True, timeout=60, check=False
        )

    return run
