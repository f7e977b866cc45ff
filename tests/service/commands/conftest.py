"""The command line as its users type it, against a real service over HTTP, which all these tests share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import command_line
from tests.running import Service

Losscast = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def service_url(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`losscast serve` on the model `tiny`, for one file: what one file posts would change the drift of another.

    It draws nothing for the audit lane.
    """
    service = Service(tiny_store, tmp_path_factory.mktemp("commands"))
    service.start()
    yield str(service.http.base_url)
    assert service.stop() == 0


@pytest.fixture
def losscast(service_url: str, monkeypatch: pytest.MonkeyPatch) -> Losscast:
    """Runs `losscast ...` with the service's address and the annotator ada in its environment."""
    monkeypatch.setattr("service.commands.console.RETRY_S", 0.5)  # else commands without a service wait for one
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")}
    environment = {**own, "COLUMNS": "300", "NO_COLOR": "1", "LOSSCAST_URL": service_url, "LOSSCAST_ANNOTATOR": "ada"}

    def run(*arguments: object, **changes: str) -> "CompletedProcess[str]":
        return command_line.run(*arguments, environment={**environment, **changes})

    return run
