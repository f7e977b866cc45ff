"""Promotion, rollback and history over HTTP, on a real service and store."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.contract.index import ModelIndex, read_index, write_index
from tests.service.read_only import read_only

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
PNG = {"content-type": "image/png"}
PROMOTE, ROLLBACK, HISTORY = (f"/v1/models/tiny/{one}" for one in ("promote", "rollback", "history"))

UNUSABLE: list[dict[str, Any]] = [
    {"reason": ""},
    {"reason": "   "},
    {"reason": "x" * 1001},
    {"reason": "two\nlines"},
    {"reason": None},
    {"who": ""},
    {"who": "x" * 129},
    {"who": "a\x1b[31mda"},
    {"version": 2},
    {"version": "../1"},
    {"version": "02"},
    {"expected_live": None},
    {"wait_s": -1},
    {"wait_s": 61},
    {"wait_s": "5"},
    {"unknown": 1},
]


@pytest.fixture
def store(tmp_path: Path, publish_version: Callable[..., None]) -> Path:
    """`tiny` with the versions 1, live, to 3."""
    for version in (1, 2, 3):
        publish_version(tmp_path / "bundles", version)
    write_index(tmp_path / "bundles/tiny", ModelIndex(live=1))
    return tmp_path / "bundles"


@pytest.fixture
async def http(open_service: OpenService, store: Path) -> httpx.AsyncClient:
    """A service that does not poll its store."""
    return await open_service(bundles=store, poll_s=0)


async def promote(http: httpx.AsyncClient, version: int, expected: int, **fields: Any) -> httpx.Response:
    body = {"version": str(version), "expected_live": str(expected), "reason": "a test", **fields}
    return await http.post(PROMOTE, json=body)


async def rollback(http: httpx.AsyncClient, expected: int, **fields: Any) -> httpx.Response:
    return await http.post(ROLLBACK, json={"expected_live": str(expected), "reason": "a test", **fields})


async def events(http: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    changes = (await http.get(HISTORY)).json()["changes"]
    return [(one["event"], one["version"], one["who"]) for one in changes]


async def answering(http: httpx.AsyncClient, image: bytes) -> str:
    reply = await http.post("/v1/predict", content=image, headers=PNG)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["version"])


def message(reply: httpx.Response, status: int) -> str:
    assert reply.status_code == status, reply.text
    return str(reply.json()["error"]["message"])


def told(reply: httpx.Response) -> dict[str, Any]:
    """The reply without its replicas, where this one alone is known."""
    fields: dict[str, Any] = reply.json()
    (mine,), is_complete, unseen = fields.pop("replicas"), fields.pop("complete"), fields.pop("unseen")
    assert (mine["version"], mine["serves"], is_complete, unseen) == (fields["live"], True, True, None)
    return fields


async def test_a_promoted_version_answers_at_once_and_a_rollback_brings_the_other_back(
    http: httpx.AsyncClient, store: Path, grey: Grey
) -> None:
    reply = await promote(http, 2, 1, who="ada", reason="fewer lossy images")
    assert reply.status_code == 200, reply.text
    assert told(reply) == {"model": "tiny", "live": "2", "previous": "1", "changed": True, "served": "2"}
    assert await answering(http, grey(0.2)) == "2"
    assert read_index(store / "tiny") == ModelIndex(live=2, previous=1)
    reply = await rollback(http, 2, who="bob", reason="it flags too much")
    assert told(reply) == {"model": "tiny", "live": "1", "previous": "2", "changed": True, "served": "1"}
    assert await answering(http, grey(0.2)) == "1"
    history = (await http.get(HISTORY, params={"n": 2})).json()
    assert (history["live"], history["previous"], history["served"]) == ("1", "2", "1")
    newest, older = history["changes"]
    assert (newest["event"], newest["version"], newest["before"], newest["who"]) == ("rolled_back", "1", "2", "bob")
    assert newest["reason"] == "it flags too much"
    assert (older["event"], older["version"], older["who"]) == ("promoted", "2", "ada")
    assert older["onnx_sha256"] == json.loads((store / "tiny/2/manifest.json").read_bytes())["onnx_sha256"]


async def test_waiting_samples_keep_their_order_across_versions(
    open_service: OpenService, store: Path, grey: Grey, until: Until
) -> None:
    http = await open_service(bundles=store, poll_s=0, audit_rate=0)
    order: dict[str, float] = {}
    for version, brightnesses in ((1, (0.7, 0.55, 0.8)), (2, (0.6, 0.75))):
        if version > 1:
            assert (await promote(http, version, version - 1)).status_code == 200
        for brightness in brightnesses:
            reply = (await http.post("/v1/predict", content=grey(brightness), headers=PNG)).json()
            assert (reply["version"], reply["queue"]) == (str(version), "accepted")
            order[reply["sample_id"]] = brightness

    async def all_wait() -> bool:
        return bool((await http.get("/v1/queue/stats")).json()["pending"] == len(order))

    await until(all_wait)
    leased = (await http.post("/v1/queue/lease", json={"n": 9, "annotator": "ada", "token": "t"})).json()["samples"]
    assert [order[sample["sample_id"]] for sample in leased] == sorted(order.values(), reverse=True)


async def test_a_model_without_changes_has_an_empty_history(http: httpx.AsyncClient) -> None:
    reply = await http.get(HISTORY)
    nothing: dict[str, Any] = {"previous": None, "probation": None, "changes": []}
    assert reply.json() == {"model": "tiny", "live": "1", "served": "1", **nothing}


async def test_repeated_requests_change_nothing(http: httpx.AsyncClient) -> None:
    assert [(await promote(http, 2, 1)).json()["changed"] for _ in range(2)] == [True, False]
    assert [(await rollback(http, 2)).json()["changed"] for _ in range(2)] == [True, False]
    assert len(await events(http)) == 3


async def test_a_change_is_refused_when_live_has_moved(http: httpx.AsyncClient) -> None:
    assert (await promote(http, 2, 1)).status_code == 200
    assert "version 2 of tiny is live, not 1" in message(await promote(http, 3, 1), 409)
    assert "version 2 of tiny is live, not 3" in message(await rollback(http, 3), 409)


async def test_a_rollback_is_refused_where_there_is_no_way_back(http: httpx.AsyncClient) -> None:
    assert "no previous version" in message(await rollback(http, 1), 409)
    await promote(http, 2, 1)
    await rollback(http, 2)
    assert "was rolled back from version 2 to 1 already" in message(await rollback(http, 1), 409)
    assert (await rollback(http, 1, to="3")).json()["served"] == "3"


async def test_unknown_models_and_versions_are_not_found(http: httpx.AsyncClient) -> None:
    assert "no version 9: publish it first" in message(await promote(http, 9, 1), 404)
    assert "no version 9" in message(await rollback(http, 1, to="9"), 404)
    body = {"version": "1", "expected_live": "1", "reason": "a test"}
    assert "no model 'other'" in message(await http.post("/v1/models/other/promote", json=body), 404)
    assert "no model 'other'" in message(await http.get("/v1/models/other/history"), 404)


async def test_a_request_with_unusable_fields_is_malformed(http: httpx.AsyncClient, store: Path) -> None:
    good = {"version": "2", "expected_live": "1", "reason": "a test"}
    for fields in UNUSABLE:
        assert message(await http.post(PROMOTE, json={**good, **fields}), 400).isprintable(), fields
    for n in ("0", "1001", "x"):
        message(await http.get(HISTORY, params={"n": n}), 400)
    assert read_index(store / "tiny") == ModelIndex(live=1)


async def test_a_version_that_cannot_be_loaded_is_taken_back_and_the_reply_says_why(
    http: httpx.AsyncClient, store: Path, grey: Grey
) -> None:
    await promote(http, 2, 1)
    (store / "tiny/3/model.onnx").write_bytes(b"no model")
    said = message(await promote(http, 3, 2), 409)
    assert "model.onnx does not have the SHA-256 of its manifest" in said
    assert said.endswith("the change was undone")
    assert read_index(store / "tiny") == ModelIndex(live=2, previous=1)
    assert await answering(http, grey(0.2)) == "2"
    assert (await events(http))[:2] == [("rolled_back", "2", "losscast"), ("promoted", "3", "unknown")]
    assert 'losscast_model_versions_failed{model="tiny"} 0.0' in (await http.get("/metrics")).text
    assert (await rollback(http, 2)).json()["served"] == "1"


async def test_a_version_that_hangs_in_its_warm_up_is_taken_back(
    open_service: OpenService, store: Path, publish_version: Callable[..., None], hanging_text: str, grey: Grey
) -> None:
    publish_version(store, 4, text=hanging_text)
    http = await open_service(bundles=store, poll_s=0, hang_s=1)
    assert message(await promote(http, 4, 1), 409).endswith("the change was undone")
    assert read_index(store / "tiny") == ModelIndex(live=1)
    assert await answering(http, grey(0.2)) == "1"


async def test_a_read_only_store_is_told_and_nothing_changes(http: httpx.AsyncClient, store: Path, grey: Grey) -> None:
    with read_only(store):
        said = message(await promote(http, 2, 1), 503)
        assert "the bundle store cannot be written" in said
        assert "mount it writable" in said
        assert await answering(http, grey(0.2)) == "1"
        assert (await http.get(HISTORY)).json()["changes"] == []


async def test_a_damaged_history_is_told_to_readers_and_stops_no_change(http: httpx.AsyncClient, store: Path) -> None:
    (store / "tiny/history.ndjson").write_bytes(b"no json\n")
    assert "history.ndjson is damaged in line 1" in message(await http.get(HISTORY), 409)
    assert (await promote(http, 2, 1)).status_code == 200


async def test_promoting_a_model_that_was_unloaded_serves_it_again(http: httpx.AsyncClient, grey: Grey) -> None:
    assert (await http.post("/v2/repository/models/tiny/unload")).status_code == 200
    assert (await promote(http, 2, 1)).json()["served"] == "2"
    assert await answering(http, grey(0.2)) == "2"


async def test_changes_are_counted_and_logged(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await promote(http, 2, 1, who="ada", reason="fewer lossy images")
    await promote(http, 2, 1)
    await rollback(http, 2, who="bob", reason="worse")
    text = (await http.get("/metrics")).text
    for event in ("promoted", "rolled_back"):
        assert f'losscast_version_changes_total{{event="{event}",model="tiny"}} 1.0' in text
    assert "tiny: ada promoted version 2 (1 was live): fewer lossy images" in caplog.messages
    assert "tiny: bob rolled back to version 1 (2 was live): worse" in caplog.messages


async def test_keys_protect_the_routes(open_service: OpenService, store: Path) -> None:
    http = await open_service(bundles=store, api_keys=("k" * 32,))
    assert (await promote(http, 2, 1)).status_code == 401
    assert (await rollback(http, 1)).status_code == 401
    assert (await http.get(HISTORY)).status_code == 401
    http.headers["authorization"] = "Bearer " + "k" * 32
    assert (await promote(http, 2, 1)).status_code == 200


async def test_another_replica_follows_by_polling(  # noqa: PLR0913, PLR0917 - fixtures
    open_service: OpenService, http: httpx.AsyncClient, store: Path, tmp_path: Path, until: Until, grey: Grey
) -> None:
    other = await open_service(bundles=store, poll_s=0.05, state=tmp_path / "other-state")
    assert (await promote(http, 2, 1)).json()["served"] == "2"

    async def has_followed() -> bool:
        return await answering(other, grey(0.2)) == "2"

    await until(has_followed)
    assert (await other.get(HISTORY)).json()["served"] == "2"


async def test_a_promotion_without_the_queues_server_stands_and_says_that_other_replicas_are_not_known(
    open_service: OpenService, store: Path, tmp_path: Path, grey: Grey
) -> None:
    http = await open_service(bundles=store, poll_s=0, redis_url=f"unix://{tmp_path}/no.sock")
    fields = (await promote(http, 2, 1, wait_s=0)).json()
    assert (fields["live"], fields["served"], fields["complete"]) == ("2", "2", False)
    assert [one["serves"] for one in fields["replicas"]] == [True]
    assert fields["unseen"].startswith("other replicas are not known: the queue's server")
    assert await answering(http, grey(0.2)) == "2"


async def test_promotions_and_rollbacks_under_traffic_fail_no_request(http: httpx.AsyncClient, grey: Grey) -> None:
    async with _traffic(http, grey(0.2)) as replies:
        for _ in range(2):
            assert (await promote(http, 2, 1)).status_code == 200
            assert (await rollback(http, 2)).status_code == 200
        assert (await promote(http, 3, 1)).status_code == 200
    assert {status for status, _ in replies} == {200}
    assert {version for _, version in replies} == {"1", "2", "3"}


@asynccontextmanager
async def _traffic(http: httpx.AsyncClient, image: bytes) -> AsyncIterator[list[tuple[int, str]]]:
    """Four callers that post without a pause. Status and version of every reply."""
    replies: list[tuple[int, str]] = []
    over = asyncio.Event()

    async def post() -> None:
        is_last = False
        while not is_last:
            is_last = over.is_set()  # so the version that is live last answers as well
            reply = await http.post("/v1/predict", content=image, headers=PNG)
            replies.append((reply.status_code, reply.json().get("version", "")))

    async with asyncio.TaskGroup() as callers:
        for _ in range(4):
            callers.create_task(post())
        try:
            yield replies
        finally:
            over.set()
