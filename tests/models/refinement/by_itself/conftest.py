"""A real service with labels, and a program in the place of `losscast refine` that makes a candidate in a moment."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.refinement.by_itself.metrics import RefinerMetrics
from models.refinement.by_itself.refiner import Orders, Refiner
from models.refinement.by_itself.triggers import Wanted
from models.refinement.service_api import ServiceApi
from service.client import LosscastClient
from tests.running import Service

ROOT = Path(__file__).resolve().parents[4]

Label = Callable[[int], None]


@pytest.fixture
def store(tmp_path: Path, tiny_store: Path) -> Path:
    shutil.copytree(tiny_store, tmp_path / "bundles")
    return tmp_path / "bundles"


@pytest.fixture
def service(store: Path, tmp_path: Path) -> Iterator[Service]:
    made = Service(store, tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def url(service: Service) -> str:
    return str(service.http.base_url).rstrip("/")


@pytest.fixture
def api(url: str) -> Iterator[ServiceApi]:
    with ServiceApi(url) as made:
        yield made


@pytest.fixture
def label(url: str, service: Service, grey: Callable[..., bytes]) -> Label:
    """Posts so many lossy images and labels them."""

    def work(count: int) -> None:
        with LosscastClient(url) as client:
            known = client.stats()["accepted"]
            for number in range(known, known + count):
                client.predict(grey(0.9, tag=number))
            service.settled(known + count)
            for sample in client.lease(count, annotator="ada").samples:
                client.label(sample.sample_id, [[2, 2], [6, 6]], annotator="ada")

    return work


@pytest.fixture
def refiner(store: Path, api: ServiceApi) -> Callable[..., Refiner]:
    """A refiner of `tiny` whose refinements end as asked: see `quick_refinement`."""

    def make(ends: str, *, promotes: bool = False, metrics: RefinerMetrics | None = None) -> Refiner:
        command = [sys.executable, str(Path(__file__).parent / "quick_refinement.py"), str(store), ends, "refiner"]
        orders = Orders("tiny", store, command, Wanted(labels=3, fewest=2), 0.05, promotes, "refiner")
        return Refiner(orders, api, metrics or RefinerMetrics("tiny", 3))

    return make
