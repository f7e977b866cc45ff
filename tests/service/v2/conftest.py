"""One `losscast serve` that all tests of the Open Inference Protocol share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Service


@pytest.fixture(scope="session")
def service_url(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`losscast serve` on the model `tiny`. It draws nothing for the audit lane."""
    service = Service(tiny_store, tmp_path_factory.mktemp("v2"))
    service.start()
    yield str(service.http.base_url).rstrip("/")
    assert service.stop() == 0
