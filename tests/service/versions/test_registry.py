"""Models come, change and go while they are served: real bundles, engines and lines, without HTTP."""

import asyncio
import json
import os
import shutil
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import stamina

from models.contract.bundle import BundleError
from models.contract.index import ModelIndex, write_index
from models.contract.manifest import Manifest
from service.drift.watch import Watches
from service.errors import Conflict, NotFound, StartError, Unavailable
from service.inference.engine import Engine
from service.inference.intake import Intake
from service.labelling.journal.journal import Journal
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.versions.bundle_store import BundleStore, PatientStore
from service.versions.loaded_version import VersionLoader
from service.versions.registry import Registry

Publish = Callable[..., None]
SETTINGS: dict[str, Any] = {"model": "tiny", "audit_rate": 0, "max_batch": 4, "workers": 1}  # little to tune

OpenRegistry = Callable[..., Awaitable[Registry]]


@pytest.fixture
def store(tmp_path: Path, publish_version: Publish) -> Path:
    """`tiny` with the versions 1 (live), 2 and 3."""
    for version in (1, 2, 3):
        publish_version(tmp_path / "bundles", version)
    serve(tmp_path / "bundles", 1)
    return tmp_path / "bundles"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def open_registry(store: Path, metrics: Metrics, tmp_path: Path) -> AsyncIterator[OpenRegistry]:
    async with AsyncExitStack() as stack:

        async def open_one(*only: str, **settings: Any) -> Registry:
            journal = Journal.open(tmp_path / "journal", max_bytes=10**6, max_rows=100)
            stack.push_async_callback(journal.close)
            decoders = stack.enter_context(ThreadPoolExecutor(1))
            loader = VersionLoader(Settings(**{**SETTINGS, **settings}), metrics, decoders, journal, Watches(0.0))
            registry = Registry(PatientStore(BundleStore(store)), loader.open, metrics, "tiny", only)
            stack.push_async_callback(registry.close)
            await registry.open()
            return registry

        yield open_one


@pytest.fixture
async def registry(open_registry: OpenRegistry) -> Registry:
    return await open_registry()


def serve(store: Path, live: int, previous: int | None = None, shadow: int | None = None, model: str = "tiny") -> None:
    write_index(store / model, ModelIndex(live=live, previous=previous, shadow=shadow))


def damage(store: Path, version: int) -> None:
    (store / f"tiny/{version}/model.onnx").write_bytes(b"no model")


def take_away(store: Path) -> None:
    """To look at it fails from now on, as on a network folder that broke."""
    store.rename(store.with_name("elsewhere"))
    store.symlink_to("x" * 300)


def states(registry: Registry, model: str = "tiny") -> dict[str, str]:
    return {one.version: one.state for one in registry.index() if one.name == model}


def reason(registry: Registry, version: str, model: str = "tiny") -> str:
    (state,) = (one for one in registry.index() if (one.name, one.version) == (model, version))
    return state.reason


def missing(metrics: Metrics, model: str = "tiny") -> float:
    name = f'losscast_model_versions_failed{{model="{model}"}} '
    (line,) = [line for line in metrics.render().decode().splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


def live(registry: Registry, model: str = "tiny") -> str:
    return registry.live(model).manifest.version


async def test_a_new_live_version_is_served_after_a_look_and_the_old_one_kept_while_it_is_named(
    registry: Registry, store: Path, metrics: Metrics
) -> None:
    serve(store, 2, previous=1)
    await registry.poll()
    assert live(registry) == "2"
    assert states(registry) == {"1": "READY", "2": "READY"}
    info = [line for line in metrics.render().decode().splitlines() if line.startswith("losscast_model_info{")]
    assert info == ['losscast_model_info{model="tiny",version="2"} 1.0']


async def test_every_version_that_is_named_answers_under_its_own_number(
    registry: Registry, store: Path, grey: Callable[..., bytes]
) -> None:
    serve(store, 2, previous=1, shadow=3)
    await registry.poll()
    for asked, answers in {None: "2", "1": "1", "2": "2", "3": "3"}.items():
        with registry.using("tiny", asked) as predictor:
            assert (await predictor.predict(grey(0.2), Intake("r"))).version == answers
    with pytest.raises(NotFound, match="no version '4' of tiny: 1, 2, 3 are served"):
        registry.using("tiny", "4")


async def test_going_back_opens_nothing(registry: Registry, store: Path) -> None:
    serve(store, 2, previous=1)
    await registry.poll()
    versions = {version: registry.loaded("tiny", version) for version in ("1", "2")}
    shutil.rmtree(store / "tiny/1/")  # it could not be opened again
    (store / "tiny/model.json").write_text(json.dumps({"live": 1, "previous": 2}))
    await registry.poll()
    assert live(registry) == "1"
    assert versions == {version: registry.loaded("tiny", version) for version in ("1", "2")}


async def test_a_version_that_is_not_named_any_more_gives_its_memory_back_when_its_last_user_lets_go(
    registry: Registry, store: Path, grey: Callable[..., bytes]
) -> None:
    engine = cast("Engine", registry.live().batcher._run)
    session = weakref.ref(engine._sessions[0])
    with registry.using() as held:
        serve(store, 2)
        await registry.poll()
        assert states(registry) == {"1": "UNLOADING", "2": "READY"}
        assert (await held.predict(grey(0.2), Intake("r"))).version == "1"
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert states(registry) == {"2": "READY"}
            assert session() is None  # at once, without the garbage collector


async def test_a_version_that_cannot_be_opened_leaves_the_old_one_live_and_says_why(
    registry: Registry, store: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    damage(store, 2)
    serve(store, 2, previous=1)
    for _ in range(3):
        await registry.poll()
    assert live(registry) == "1"
    assert states(registry) == {"1": "READY", "2": "UNAVAILABLE"}
    assert "SHA-256" in reason(registry, "2")
    told = [record.getMessage() for record in caplog.records if "not loaded" in record.getMessage()]
    assert len(told) == 1  # not at every look
    assert told[0].endswith("version 1 is still served")
    assert 'losscast_model_load_failures_total{model="tiny"} 1.0' in metrics.render().decode()
    with pytest.raises(Unavailable, match="SHA-256"):
        registry.using("tiny", "2")


async def test_a_version_that_failed_is_tried_again_once_its_files_change(
    registry: Registry, store: Path, publish_version: Publish, metrics: Metrics
) -> None:
    damage(store, 2)
    serve(store, 2, previous=1)
    await registry.poll()
    assert missing(metrics) == 1
    shutil.rmtree(store / "tiny/2")
    publish_version(store, 2)
    await registry.poll()
    assert live(registry) == "2"
    assert states(registry) == {"1": "READY", "2": "READY"}
    assert missing(metrics) == 0


@pytest.mark.parametrize("content", [None, b"", b'{"live": ', b'{"live": "one"}', b'{"live": 0}', b"\xff"])
async def test_an_index_that_vanished_or_is_damaged_changes_nothing_until_it_is_back(
    registry: Registry, store: Path, content: bytes | None, metrics: Metrics
) -> None:
    path = store / "tiny/model.json"
    path.unlink() if content is None else path.write_bytes(content)
    await registry.poll()
    assert missing(metrics) == 1
    assert live(registry) == "1"
    assert states(registry) == {"": "UNAVAILABLE", "1": "READY"}
    serve(store, 2)
    await registry.poll()
    assert live(registry) == "2"
    assert "" not in states(registry)
    assert missing(metrics) == 0


async def test_a_store_that_hangs_leaves_requests_and_the_event_loop_alone(
    registry: Registry, store: Path, grey: Callable[..., bytes]
) -> None:
    path = store / "tiny/model.json"
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits for a writer
    polling = asyncio.create_task(registry.poll())
    with registry.using() as predictor:
        for tag in range(5):
            assert (await predictor.predict(grey(0.2, tag=tag), Intake("r"))).version == "1"
    assert not polling.done()
    await asyncio.to_thread(path.write_bytes, b'{"live": 3}')
    await polling
    assert live(registry) == "3"


async def test_while_a_version_loads_it_is_asked_for_later_and_the_old_one_answers(
    store: Path, metrics: Metrics
) -> None:
    opening, go_on = asyncio.Event(), asyncio.Event()

    async def refuse_slowly(_: object) -> Any:
        opening.set()
        await go_on.wait()
        raise BundleError("it was only a test")

    registry = Registry(PatientStore(BundleStore(store)), refuse_slowly, metrics, "tiny")
    loading = asyncio.create_task(registry.load("tiny"))
    await opening.wait()
    assert states(registry) == {"1": "LOADING"}
    with pytest.raises(Unavailable, match="tiny is loading version 1: retry"):
        registry.using("tiny")
    go_on.set()
    with pytest.raises(Conflict, match="it was only a test"):
        await loading
    assert states(registry) == {"1": "UNAVAILABLE"}


async def test_the_whole_store_is_served_and_what_joins_it(
    store: Path, publish_version: Publish, open_registry: OpenRegistry
) -> None:
    publish_version(store, 1, model="second")
    serve(store, 1, model="second")
    registry = await open_registry()
    assert registry.names == ["tiny", "second"]
    publish_version(store, 7, model="third")
    serve(store, 7, model="third")
    await registry.poll()
    assert live(registry, "third") == "7"


async def test_models_that_are_listed_are_served_beside_the_default_one_and_others_on_request(
    store: Path, publish_version: Publish, open_registry: OpenRegistry
) -> None:
    for model in ("second", "third"):
        publish_version(store, 1, model=model)
        serve(store, 1, model=model)
    registry = await open_registry("second")
    assert registry.names == ["tiny", "second"]
    await registry.load("third")
    assert live(registry, "third") == "1"
    with pytest.raises(NotFound, match="no model 'fourth'"):
        await registry.load("fourth")
    with pytest.raises(NotFound, match="no model 'fourth'"):
        registry.using("fourth")


async def test_the_start_goes_on_without_a_model_that_is_not_the_default_one(
    store: Path, publish_version: Publish, open_registry: OpenRegistry, metrics: Metrics
) -> None:
    publish_version(store, 1, model="second", embedding_size=5)
    serve(store, 1, model="second")
    registry = await open_registry()
    assert live(registry) == "1"
    assert states(registry, "second") == {"1": "UNAVAILABLE"}
    with pytest.raises(Unavailable, match="does not match its manifest"):
        registry.using("second")
    assert (missing(metrics), missing(metrics, "second")) == (0, 1)
    await registry.poll()
    assert missing(metrics, "second") == 1  # for as long as it lasts
    await registry.unload("second")
    assert missing(metrics, "second") == 0  # it is not wanted any more


async def test_a_default_model_that_cannot_be_opened_stops_the_start(store: Path, open_registry: OpenRegistry) -> None:
    damage(store, 1)
    with pytest.raises(StartError, match="SHA-256"):
        await open_registry()


async def test_what_was_unloaded_stays_so_until_it_is_loaded(registry: Registry, store: Path) -> None:
    await registry.unload("tiny")
    serve(store, 2)
    await registry.poll()
    with pytest.raises(NotFound, match="tiny was unloaded"):
        registry.using()
    assert "READY" not in states(registry).values()
    assert registry.manifest().task.names == ("a", "b")  # its samples can be labelled still
    await registry.load("tiny")
    assert live(registry) == "2"
    assert states(registry) == {"2": "READY"}


async def test_a_load_that_fails_says_why_and_keeps_what_is_served(
    registry: Registry, store: Path, metrics: Metrics
) -> None:
    damage(store, 2)
    serve(store, 2, previous=1)
    with pytest.raises(Conflict, match=r"SHA-256.*version 1 is still served"):
        await registry.load("tiny")
    assert live(registry) == "1"
    assert missing(metrics) == 1


async def test_the_operating_point_of_the_settings_is_for_the_default_model_and_others_that_have_it(
    store: Path, publish_version: Publish, open_registry: OpenRegistry, tiny_version: Manifest
) -> None:
    points = {**tiny_version.operating_points, "strict": tiny_version.operating_points["budget"]}
    publish_version(store, 4, operating_points=points)
    publish_version(store, 1, model="second")
    serve(store, 4)
    serve(store, 1, model="second")
    registry = await open_registry(operating_point="strict")
    assert (registry.live().operating_point, registry.live("second").operating_point) == ("strict", "budget")
    serve(store, 1)  # it has none such: its verdicts would keep another promise
    await registry.poll()
    assert live(registry) == "4"
    assert "no operating point 'strict'" in reason(registry, "1")


async def test_a_version_whose_batcher_has_stopped_is_named_be_it_live_or_not(registry: Registry, store: Path) -> None:
    serve(store, 2, previous=1)
    await registry.poll()
    assert registry.dead() == []
    await registry.loaded("tiny", "1").predictor.batcher.__aexit__()
    assert registry.dead() == ["tiny 1"]


async def test_a_store_that_is_away_is_told_once_and_changes_nothing(
    registry: Registry, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    take_away(store)
    for _ in range(3):
        await registry.poll()
    with pytest.raises(Unavailable, match="cannot be read"):
        await registry.load("tiny")
    assert live(registry) == "1"
    assert len([one for one in caplog.records if "served versions stay as they are" in one.getMessage()]) == 1


async def test_after_twenty_swaps_in_a_row_the_named_versions_are_loaded(registry: Registry, store: Path) -> None:
    for turn in range(20):
        serve(store, turn % 3 + 1, previous=(turn - 1) % 3 + 1)
        await registry.poll()
        assert live(registry) == str(turn % 3 + 1)
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert states(registry) == {"1": "READY", "2": "READY"}
    assert registry.dead() == []


async def test_a_version_closes_although_its_user_lets_go_just_when_it_is_abandoned(registry: Registry) -> None:
    with registry.using():
        version = registry.loaded("tiny")
        retiring = asyncio.create_task(version.retire())
        await asyncio.sleep(0)
        version.abandon()
    await asyncio.wait_for(retiring, 10)
    assert not version.alive


async def test_a_bundle_whose_drift_cannot_be_watched_is_refused_and_leaves_nothing_open(
    registry: Registry, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    close = Engine.close

    def note(engine: Engine) -> None:
        closed.append(engine)
        close(engine)

    def refuse(*_: object) -> None:
        raise ValueError("the drift reference of score cannot be used")

    monkeypatch.setattr(Engine, "close", note)
    monkeypatch.setattr(Watches, "open", refuse)
    threads = {thread for thread in threading.enumerate() if thread.is_alive()}
    serve(store, 2, previous=1)
    await registry.poll()
    assert live(registry) == "1"
    assert "cannot be used: export the bundle again" in reason(registry, "2")
    assert len(closed) == 1
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:  # a timer of the warm-up that was cancelled ends a moment later
            assert {thread for thread in threading.enumerate() if thread.is_alive()} <= threads
