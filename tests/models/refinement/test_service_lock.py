"""The lock over all hosts, on a real service, and the fence of the store."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from models.contract.bundle import BundleError
from models.contract.fence import FILE, Fence, FencedOff, largest_token
from models.refinement.command import alone
from models.refinement.config import Busy, RefinementError
from models.refinement.service_api import ServiceApi, ServiceAway
from models.refinement.service_lock import locked_by_service
from tests.running import Service


@pytest.fixture(scope="module")
def service(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tiny_store, tmp_path_factory.mktemp("service"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def api(service: Service) -> Iterator[ServiceApi]:
    with ServiceApi(str(service.http.base_url)) as made:
        yield made


def test_a_second_refinement_is_told_who_holds_the_lock_and_each_token_is_larger(api: ServiceApi) -> None:
    with locked_by_service(api, "tiny", 0) as first, pytest.raises(Busy, match="is refining tiny: wait until"):
        locked_by_service(api, "tiny", 0).__enter__()
    with locked_by_service(api, "tiny", 0) as second:
        assert second.token > first.token
    with locked_by_service(api, "tiny", 1000) as third:
        assert third.token == 1001


def test_a_lock_is_kept_while_it_is_held_and_its_loss_stops_the_refinement(
    api: ServiceApi, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left_s() -> float:
        return float(service.http.get("/v1/models/kept/refinement").json()["left_s"])

    monkeypatch.setattr("models.refinement.service_lock.KEEPS", 600)  # ten times a second
    with locked_by_service(api, "kept", 0) as lock:
        seen = [left_s()]
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.01):
            with attempt:
                seen.append(left_s())
                assert seen[-1] > seen[-2]  # else it only runs out
        lock.check()
        api.drop_lock("kept", lock.token)
        taken = api.take_lock("kept", "other", 60, 0)
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
            with attempt:
                assert lock._lost is not None
        with pytest.raises(RefinementError, match=r"is lost: (other has it now|it ran out): this refinement stops"):
            lock.check()
    with pytest.raises(Busy):  # leaving did not take the lock from the other one
        api.take_lock("kept", "third", 60, 0)
    api.drop_lock("kept", taken)


def test_without_a_service_the_advice_is_to_give_a_snapshot(tmp_path: Path) -> None:
    with pytest.raises(ServiceAway, match=r"does not answer.*--snapshot needs no service"):
        alone("tiny", tmp_path, None, "http://127.0.0.1:9").__enter__()
    with alone("tiny", tmp_path, tmp_path, "http://127.0.0.1:9") as lock:
        assert lock is None


def test_the_lock_begins_above_what_the_store_has_seen(service: Service, tmp_path: Path, tiny_store: Path) -> None:
    shutil.copytree(tiny_store, tmp_path / "bundles")
    candidates = tmp_path / "bundles" / "tiny" / "candidates"
    candidates.mkdir()
    Fence(candidates, 5000).enter()
    with alone("tiny", tmp_path / "bundles", None, str(service.http.base_url)) as lock:
        assert lock is not None
        assert lock.token == 5001


def test_the_fence_lets_in_whoever_has_the_largest_token_so_far(tmp_path: Path) -> None:
    assert largest_token(tmp_path) == 0
    Fence(tmp_path, 3).enter()
    Fence(tmp_path, 3).enter()
    Fence(tmp_path, 7).enter()
    assert largest_token(tmp_path) == 7
    with pytest.raises(FencedOff, match=r"\(token 3\) lost its lock to token 7 and stops"):
        Fence(tmp_path, 3).check()
    (tmp_path / FILE).write_bytes(b"seven")
    with pytest.raises(BundleError, match="is damaged: remove it while no refinement runs"):
        Fence(tmp_path, 8).enter()
