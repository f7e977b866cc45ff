"""Samples by id and the labels that came back, over HTTP."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import stamina

from service.labelling.janitor import Janitor
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample
from service.redis.private_valkey import private_valkey
from service.redis.server import OutOfMemory
from tests.service.labelling.queue.own_queue import OwnQueue

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Queued = Callable[[int], Awaitable[list[str]]]


@pytest_asyncio.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    async with private_valkey(tmp_path / "valkey") as path:
        yield path


async def label(http: httpx.AsyncClient, sample_id: str, values: list[Any]) -> None:
    request = {"sample_id": sample_id, "annotator": "ada", "token": "t", "label": {"values": values}}
    reply = await http.post("/v1/queue/label", json=request)
    assert reply.status_code == 200, reply.text


async def test_a_sample_can_be_looked_at_before_and_after_its_label(http: httpx.AsyncClient, queued: Queued) -> None:
    (sample_id,) = await queued(1)
    before = (await http.get(f"/v1/samples/{sample_id}")).json()
    assert (before["sample_id"], before["width"], before["lane"]) == (sample_id, 20, "predicted_loss")
    await label(http, sample_id, [[1, 2], None])
    assert (await http.get(f"/v1/samples/{sample_id}")).json() == {**before, "state": "labelled"}


async def test_a_sample_shows_where_it_is_and_why_it_was_rejected(http: httpx.AsyncClient, queued: Queued) -> None:
    (sample_id,) = await queued(1)
    lease = {"annotator": "ada", "token": "t"}
    shown = [await place(http, sample_id)]
    await http.post("/v1/queue/lease", json=lease)
    shown.append(await place(http, sample_id))
    reason = 'blurred "at night", größtenteils'
    await http.post("/v1/queue/reject", json={**lease, "sample_id": sample_id, "reason": reason})
    shown.append(await place(http, sample_id))
    assert shown == [("pending", None), ("leased", None), ("rejected", reason)]
    await erased(http, sample_id)
    assert (await http.get(f"/v1/samples/{sample_id}")).status_code == 404


async def place(http: httpx.AsyncClient, sample_id: str) -> tuple[str, str | None]:
    known = (await http.get(f"/v1/samples/{sample_id}")).json()
    return known["state"], known["reject_reason"]


async def test_pages_of_labels_come_in_their_order_with_a_cursor_to_the_next(
    http: httpx.AsyncClient, queued: Queued
) -> None:
    ids = await queued(5)
    for number, sample_id in enumerate(ids):
        await label(http, sample_id, [[number, 2], None])
    seen: list[dict[str, Any]] = []
    place: str | None = "/v1/labels?n=2"
    while place:
        page = await http.get(place)
        assert page.headers["content-type"] == "application/x-ndjson"
        seen += map(json.loads, page.text.splitlines())
        place = page.links.get("next", {}).get("url")
    assert [line["sample_id"] for line in seen] == ids
    assert [line["label"] for line in seen] == [{"values": [[float(number), 2.0], None]} for number in range(5)]
    assert {line["annotator"] for line in seen} == {"ada"}
    assert all(line["labelled_at"] >= line["flagged_at"] for line in seen)
    assert (await http.get(seen[0]["image"])).status_code == 200


async def test_the_last_cursor_finds_what_is_labelled_later(http: httpx.AsyncClient, queued: Queued) -> None:
    first, second = await queued(2)
    await label(http, first, [[1, 2], None])
    cursor = (await http.get("/v1/labels")).headers["x-next-cursor"]
    nothing = await http.get("/v1/labels", params={"cursor": cursor})
    assert (nothing.text, nothing.links) == ("", {})
    await label(http, second, [[3, 4], None])
    later = await http.get("/v1/labels", params={"cursor": nothing.headers["x-next-cursor"]})
    assert json.loads(later.text)["sample_id"] == second


async def test_coco_has_an_image_and_an_annotation_for_each_label(http: httpx.AsyncClient, queued: Queued) -> None:
    ids = await queued(2)
    for sample_id in ids:
        await label(http, sample_id, [[1, 2], None])
    reply = await http.get("/v1/labels?format=coco")
    coco = reply.json()
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-next-cursor"]
    assert [image["file_name"] for image in coco["images"]] == [f"{sample_id}.png" for sample_id in ids]
    assert [image["width"] for image in coco["images"]] == [20, 20]
    assert [one["keypoints"] for one in coco["annotations"]] == [[1.0, 2.0, 2, 0, 0, 0]] * 2
    assert [one["image_id"] for one in coco["annotations"]] == [image["id"] for image in coco["images"]]
    assert coco["categories"][0]["keypoints"] == ["a", "b"]


@pytest.mark.parametrize("query", ["n=0", "n=1001", "n=x", "format=xml", "colour=red", "cursor=%00%0a", "cursor=x"])
async def test_a_query_that_makes_no_sense_is_told_so(http: httpx.AsyncClient, query: str) -> None:
    reply = await http.get(f"/v1/labels?{query}")
    assert reply.status_code == 400, reply.text


async def test_an_erased_sample_is_gone_everywhere(http: httpx.AsyncClient, queued: Queued) -> None:
    labelled, waiting = await queued(2)
    await label(http, labelled, [[1, 2], None])
    for sample_id in (labelled, waiting):
        path = f"/v1/samples/{sample_id}"
        await erased(http, sample_id)
        assert (await http.delete(path)).json() == {"sample_id": sample_id, "erased": True}
        assert (await http.get(path)).status_code == 404
        assert (await http.get(f"{path}/image")).status_code == 404
    assert (await http.get("/v1/labels")).text == ""
    counts = (await http.get("/v1/queue/stats")).json()
    assert (counts["erased"], counts["pending"], counts["labelled"]) == (2, 0, 0)


async def test_the_image_of_a_label_is_there_past_retention_until_it_is_erased(
    socket: Path, open_service: OpenService, grey: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.labelling.queue.scripts.GRACE_S", 0.0)
    http, posted = await open_service(redis_url=f"unix://{socket}"), grey(0.9)
    sample_id = (await http.post("/v1/predict", content=posted)).json()["sample_id"]
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await http.get("/v1/queue/stats")).json()["pending"] == 1
    await label(http, sample_id, [[1, 2], None])
    await pass_retention(socket, tmp_path / "state" / "blobs")
    assert (await http.get(f"/v1/samples/{sample_id}")).status_code == 404
    path = json.loads((await http.get("/v1/labels")).text)["image"]
    image = await http.get(path)
    assert (image.status_code, image.headers["content-type"], image.content) == (200, "image/png", posted)
    await erased(http, sample_id)
    assert (await http.get(path)).status_code == 404


async def pass_retention(socket: Path, blobs: Path) -> None:
    """Twice, since the label is archived after the first look for what may be forgotten."""
    queue = OwnQueue.open(str(socket), BlobStore.open(blobs), QueuePolicy(retention_s=1e-6))
    for _ in range(2):
        await Janitor(queue, queue.blobs).tidy("tiny")
    await queue.close()


async def test_an_unknown_sample_has_nothing_to_erase(http: httpx.AsyncClient) -> None:
    assert (await http.delete(f"/v1/samples/{'0' * 32}")).json() == {"sample_id": "0" * 32, "erased": False}


async def test_a_sample_in_the_journal_is_not_said_to_be_erased(
    http: httpx.AsyncClient, grey: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_memory(queue: RedisQueue, samples: list[Sample]) -> None:  # noqa: ARG001 - as the queue's own
        raise OutOfMemory("the queue's server is out of memory")

    monkeypatch.setattr(RedisQueue, "announce", out_of_memory)
    sample_id = (await http.post("/v1/predict", content=grey(0.9))).json()["sample_id"]
    reply = await http.delete(f"/v1/samples/{sample_id}")
    assert reply.status_code == 503
    assert "on its way from the journal" in reply.json()["error"]["message"]
    assert reply.headers["retry-after"]


async def test_a_sample_that_reached_the_queue_is_erased_though_its_row_waits_in_the_journal(
    http: httpx.AsyncClient, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.labelling.queue.scripts.GRACE_S", 3600.0)  # nothing settles
    (sample_id,) = await queued(1)
    assert "losscast_journal_rows 1.0" in (await http.get("/metrics")).text
    assert (await http.delete(f"/v1/samples/{sample_id}")).json() == {"sample_id": sample_id, "erased": True}
    assert "losscast_journal_rows 0.0" in (await http.get("/metrics")).text
    counts = (await http.get("/v1/queue/stats")).json()
    assert (counts["erased"], counts["pending"]) == (1, 0)


async def test_the_documentation_says_for_whom_an_erasure_answers(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    erasure = schema["paths"]["/v1/samples/{sample_id}"]["delete"]["description"]
    assert "with several replicas, ask each of them" in " ".join(erasure.split())
    field = schema["components"]["schemas"]["EraseReply"]["properties"]["erased"]["description"]
    assert "another replica's journal may" in field


async def erased(http: httpx.AsyncClient, sample_id: str) -> None:
    """Erases the sample, which may have to settle in the queue first."""
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.2):
        with attempt:
            reply = await http.delete(f"/v1/samples/{sample_id}")
            assert reply.status_code == 200, reply.text
    assert reply.json() == {"sample_id": sample_id, "erased": True}


async def test_the_documentation_describes_both_forms_and_names_only_what_it_has(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    content = schema["paths"]["/v1/labels"]["get"]["responses"]["200"]["content"]
    assert content["application/x-ndjson"]["schema"]["$ref"].endswith("/LabelLine")
    assert "application/json" in content
    named = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(schema)))
    assert named <= schema["components"]["schemas"].keys()
    assert json.dumps(schema).count('"$ref"') == json.dumps(schema).count("#/components/schemas/")
