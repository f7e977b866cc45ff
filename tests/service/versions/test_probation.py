"""A version that misbehaves after its promotion goes back by itself, once: on real services and stores."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.contract.index import ModelIndex, read_index, write_index
from models.contract.live import swap_live
from models.contract.manifest import OperatingPoint
from tests.conftest import BRIGHTNESS, FAULTY, HANGING, tiny_manifest, tiny_onnx
from tests.service.read_only import read_only

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Publish = Callable[..., None]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
PNG = {"content-type": "image/png"}
HISTORY = "/v1/models/tiny/history"
SLOW = HANGING.replace("1000000000000", "30000")  # turns of a loop: tens of milliseconds
FAULT, FLAGGED, FINE = 0.9, 0.6, 0.3  # brightness


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.versions.probation.BEAT_S", 0.02)


@pytest.fixture
def store(tmp_path: Path, publish_version: Publish) -> Path:
    """Version 1 is live. 2 fails at bright images, 3 flags everything, 4 is slow, and 5 is as good as 1."""
    folder = tmp_path / "bundles"
    (point,) = tiny_manifest(tiny_onnx()).operating_points.values()
    flags_all: dict[str, OperatingPoint] = {"budget": point.model_copy(update={"score_threshold": -1.0})}
    publish_version(folder, 1)
    publish_version(folder, 2, text=FAULTY)
    publish_version(folder, 3, operating_points=flags_all)
    publish_version(folder, 4, text=SLOW)
    publish_version(folder, 5, text=BRIGHTNESS)
    write_index(folder / "tiny", ModelIndex(live=1))
    return folder


async def post(http: httpx.AsyncClient, grey: Grey, brightness: float, n: int) -> set[int]:
    """Posts n images; returns the status codes."""
    replies = [await http.post("/v1/predict", content=grey(brightness, tag=tag), headers=PNG) for tag in range(n)]
    return {reply.status_code for reply in replies}


async def history(http: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(HISTORY)).json()
    return found


async def promote(http: httpx.AsyncClient, version: int, until: Until, expected: int = 1) -> None:
    """Returns when the version is on probation."""
    body = {"version": str(version), "expected_live": str(expected), "reason": "a test"}
    assert (await http.post("/v1/models/tiny/promote", json=body)).status_code == 200

    async def on_probation() -> bool:
        probation = (await history(http))["probation"]
        return bool(probation) and probation["version"] == str(version)

    await until(on_probation)


async def rolled_back(http: httpx.AsyncClient, until: Until, to: int = 1) -> str:
    """Waits for it; returns the reason."""

    async def is_back() -> bool:
        return bool((await history(http))["live"] == str(to))

    await until(is_back)
    newest = (await history(http))["changes"][0]
    assert (newest["event"], newest["version"], newest["who"]) == ("rolled_back", str(to), "losscast")
    return str(newest["reason"])


async def ended(http: httpx.AsyncClient, outcome: str) -> float:
    name = f'losscast_probations_total{{model="tiny",outcome="{outcome}"}}'
    lines = (await http.get("/metrics")).text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[-1])


async def test_a_version_that_fails_goes_back_and_the_old_one_answers(
    open_service: OpenService, store: Path, grey: Grey, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0)
    await promote(http, 2, until)
    assert await post(http, grey, FAULT, 10) == {500}
    reason = await rolled_back(http, until)
    assert "version 2 misbehaves on probation: " in reason
    assert "images ended in an error of the service" in reason
    assert await post(http, grey, FAULT, 1) == {200}
    assert read_index(store / "tiny") == ModelIndex(live=1, previous=2)
    assert (await history(http))["probation"] is None
    assert (await ended(http, "rolled_back"), await ended(http, "ended")) == (1, 0)


async def test_a_version_that_flags_everything_goes_back(
    open_service: OpenService, store: Path, grey: Grey, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0)
    await promote(http, 3, until)
    assert await post(http, grey, FINE, 20) == {200}
    assert "images are flagged; at most 10% is promised" in await rolled_back(http, until)


async def test_a_version_that_flags_as_much_as_the_one_before_stays(
    open_service: OpenService, store: Path, grey: Grey, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0, probation_images=100)
    await post(http, grey, FLAGGED, 100)
    await promote(http, 3, until)
    await post(http, grey, FLAGGED, 100)

    async def has_passed() -> bool:
        return await ended(http, "passed") == 1

    await until(has_passed)
    assert (await history(http))["live"] == "3"


async def test_a_slow_version_goes_back_after_both_have_run_side_by_side(
    open_service: OpenService, store: Path, grey: Grey, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0)
    await post(http, grey, FINE, 120)
    await promote(http, 4, until)
    await post(http, grey, FINE, 20)
    reason = await rolled_back(http, until)
    assert "took the engine longer than" in reason
    assert "side by side it takes" in reason


async def test_a_model_that_is_unloaded_is_on_probation_no_more(
    open_service: OpenService, store: Path, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0)
    await promote(http, 5, until)
    assert (await http.post("/v2/repository/models/tiny/unload")).status_code == 200

    async def has_ended() -> bool:
        return await ended(http, "ended") == 1

    await until(has_ended)
    assert 'losscast_probation{model="tiny"} 0.0' in (await http.get("/metrics")).text


async def test_a_good_version_passes_and_is_left_alone_after_it(
    open_service: OpenService, store: Path, grey: Grey, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0, probation_images=100)
    await post(http, grey, FINE, 100)
    await promote(http, 5, until)
    await post(http, grey, FINE, 100)

    async def is_over() -> bool:
        return (await history(http))["probation"] is None

    await until(is_over)
    assert ((await history(http))["live"], await ended(http, "passed")) == ("5", 1)
    assert 'losscast_probation{model="tiny"} 0.0' in (await http.get("/metrics")).text


async def test_after_a_rollback_nothing_goes_back_by_itself(
    open_service: OpenService, store: Path, grey: Grey, until: Until, publish_version: Publish
) -> None:
    publish_version(store, 6, text=FAULTY)
    write_index(store / "tiny", ModelIndex(live=6))
    http = await open_service(bundles=store, poll_s=0)
    await promote(http, 2, until, expected=6)
    assert await post(http, grey, FAULT, 10) == {500}
    await rolled_back(http, until, to=6)
    assert await post(http, grey, FAULT, 40) == {500}
    after = await history(http)
    assert (after["live"], after["probation"], len(after["changes"])) == ("6", None, 3)


async def test_faults_of_senders_are_no_complaint(
    open_service: OpenService, store: Path, grey: Grey, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0, probation_images=100)
    await promote(http, 5, until)
    for _ in range(40):
        assert (await http.post("/v1/predict", content=b"no image", headers=PNG)).status_code == 415
    await post(http, grey, FINE, 40)

    async def has_counted() -> bool:
        return bool((await history(http))["probation"]["images"] == 40)

    await until(has_counted)
    assert (await history(http))["probation"]["complaint"] is None


async def test_without_a_probation_a_bad_version_stays(open_service: OpenService, store: Path, grey: Grey) -> None:
    http = await open_service(bundles=store, poll_s=0, probation_s=0)
    body = {"version": "2", "expected_live": "1", "reason": "a test"}
    assert (await http.post("/v1/models/tiny/promote", json=body)).status_code == 200
    assert await post(http, grey, FAULT, 20) == {500}
    assert ((await history(http))["live"], (await history(http))["probation"]) == ("2", None)


async def test_a_promotion_in_the_store_is_found_and_a_restart_goes_on_with_its_probation(
    open_service: OpenService, store: Path, grey: Grey, until: Until, tmp_path: Path
) -> None:
    swap_live(store / "tiny", 2, 1, who="ada", reason="on the folder")
    http = await open_service(bundles=store, poll_s=0, state=tmp_path / "second")

    async def on_probation() -> bool:
        return (await history(http))["probation"] is not None

    await until(on_probation)
    assert await post(http, grey, FAULT, 10) == {500}
    await rolled_back(http, until)


async def test_an_old_promotion_is_on_probation_no_more(open_service: OpenService, store: Path, grey: Grey) -> None:
    swap_live(store / "tiny", 2, 1, who="ada", reason="on the folder")
    http = await open_service(bundles=store, poll_s=0, probation_s=1e-3)
    assert await post(http, grey, FAULT, 20) == {500}
    assert (await history(http))["live"] == "2"


async def test_two_replicas_go_back_together_with_one_line_in_the_history(
    open_service: OpenService, store: Path, grey: Grey, until: Until, tmp_path: Path
) -> None:
    one = await open_service(bundles=store, poll_s=0.05)
    other = await open_service(bundles=store, poll_s=0.05, state=tmp_path / "other")
    await promote(one, 2, until)

    async def both() -> bool:
        return (await history(other))["probation"] is not None

    await until(both)
    for http in (one, other):
        await post(http, grey, FAULT, 10)

    async def both_are_back() -> bool:
        return all([(await history(http))["served"] == "1" for http in (one, other)])

    await until(both_are_back)
    assert [change["event"] for change in (await history(one))["changes"]] == ["rolled_back", "promoted", "live"]
    assert sum([await ended(http, "rolled_back") for http in (one, other)]) == 1


async def test_a_store_that_cannot_be_written_delays_the_rollback_and_says_so(
    open_service: OpenService, store: Path, grey: Grey, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    http = await open_service(bundles=store, poll_s=0)
    await promote(http, 2, until)
    with read_only(store):
        assert await post(http, grey, FAULT, 10) == {500}

        async def complains() -> bool:
            return bool((await history(http))["probation"]["complaint"])

        await until(complains)
        assert (await history(http))["live"] == "2"
    await rolled_back(http, until)
    said = [record.message for record in caplog.records if "will try again" in record.message]
    assert len(said) == 1
    assert "the probation of tiny failed and will try again" in said[0]
