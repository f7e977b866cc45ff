"""The command line as its users type it, against a real service over HTTP."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import stamina

from service.client import LosscastClient

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


@pytest.fixture
def client(service_url: str) -> Iterator[LosscastClient]:
    with LosscastClient(service_url) as client:
        yield client


@pytest.fixture
def queued(client: LosscastClient, grey: Callable[..., bytes]) -> Callable[[int], list[str]]:
    """Empties the queue, then posts n lossy images and returns their sample ids once they are pending."""

    def post(n: int) -> list[str]:
        while left := client.lease(100, annotator="broom").samples:
            for sample in left:
                client.reject(sample, "left by another test")
        before = client.stats()["accepted"]
        replies = [client.predict(grey(0.9, tag=before * 1000 + tag)) for tag in range(n)]
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.05):
            with attempt:
                assert client.stats()["pending"] == n
        return [reply.sample_id for reply in replies]

    return post
