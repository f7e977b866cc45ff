"""The labelling queue as a client over HTTP meets it."""

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import stamina

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
Queued = Callable[[int], Awaitable[list[str]]]
ADA: dict[str, Any] = {"annotator": "ada", "token": "t"}
OTHER: dict[str, Any] = {"annotator": "ada", "token": "another"}
BOB: dict[str, Any] = {"annotator": "bob", "token": "bob"}


async def do(http: httpx.AsyncClient, operation: str, /, status: int = 200, **fields: Any) -> dict[str, Any]:
    reply = await http.post(f"/v1/queue/{operation}", json={**ADA, **fields})
    assert reply.status_code == status, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


async def refused(http: httpx.AsyncClient, operation: str, status: int, **fields: Any) -> str:
    return str((await do(http, operation, status, **fields))["error"]["message"])


async def stats(http: httpx.AsyncClient) -> dict[str, int]:
    counts: dict[str, int] = (await http.get("/v1/queue/stats")).json()
    return counts


async def test_a_leased_sample_says_all_that_an_annotator_needs(http: httpx.AsyncClient, queued: Queued) -> None:
    (sample_id,) = await queued(1)
    (sample,) = (await do(http, "lease"))["samples"]
    assert sample["sample_id"] == sample_id
    assert (sample["annotator"], sample["token"], sample["lane"]) == ("ada", "t", "predicted_loss")
    assert (sample["width"], sample["height"], sample["content_type"]) == (20, 15, "image/png")
    assert sample["prediction"]["names"] == ["a", "b"]
    assert (await http.get(sample["image"])).status_code == 200


async def test_a_token_gets_the_same_samples_again_and_another_gets_others(
    http: httpx.AsyncClient, queued: Queued
) -> None:
    await queued(3)
    first = await do(http, "lease", n=2)
    again = await do(http, "lease", n=2)
    other = await do(http, "lease", n=2, **OTHER)
    ids = [sample["sample_id"] for sample in first["samples"]]
    assert [sample["sample_id"] for sample in again["samples"]] == ids
    assert len(other["samples"]) == 1
    assert other["samples"][0]["sample_id"] not in ids


async def test_extending_returns_the_samples_of_the_lease_and_keeps_them_longer(
    http: httpx.AsyncClient, queued: Queued
) -> None:
    await queued(2)
    before = (await do(http, "lease", n=2, lease_s=60))["samples"]
    await do(http, "label", sample_id=before[0]["sample_id"], label={"values": [[1, 2], [3, 4]]})
    (after,) = (await do(http, "extend", lease_s=600))["samples"]
    assert after["sample_id"] == before[1]["sample_id"]
    assert after["lease_expires_at"] > before[1]["lease_expires_at"] + 500
    assert (await do(http, "extend", **OTHER))["samples"] == []


@pytest.mark.parametrize(
    "label",
    [
        {"values": [[1, 2], [3, 4]]},
        {"values": [[1, 2], None]},
        {"values": {"b": [3, 4], "a": [1, 2]}},
        {"values": [[-20, 20], [40, -10]]},
        {"keypoints": [1, 2, 2, 0, 0, 0]},
    ],
    ids=str,
)
async def test_a_label_in_every_form_is_taken_once(
    http: httpx.AsyncClient, queued: Queued, label: dict[str, Any]
) -> None:
    (sample_id,) = await queued(1)
    await do(http, "lease")
    taken = {"sample_id": sample_id, "state": "labelled", "repeated": False}
    assert await do(http, "label", sample_id=sample_id, label=label) == taken
    assert await do(http, "label", sample_id=sample_id, label=label) == {**taken, "repeated": True}
    assert (await stats(http))["labelled"] == 1
    message = await refused(http, "label", 409, sample_id=sample_id, label={"values": [[9, 9], [9, 9]]})
    assert sample_id in message


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"values": [[1, 2]]}, "2 values are needed (a, b), 1 came"),
        ({"values": [[1, 2], [3, "x"]]}, "b must be"),
        ({"values": [[1, 2], [True, 4]]}, "b must be"),
        ({"values": [None, None]}, "no keypoint is placed"),
        ({"values": {"a": [1, 2]}}, "b is missing"),
        ({"values": [[1, 2], [3, 31]]}, "b at [3, 31] is further than one image size outside"),
        ({"keypoints": [1, 2, 2]}, "6, 3 came"),
        ({"keypoints": [1, 2, 2, 3, -16, 2]}, "b at [3, -16]"),
    ],
    ids=str,
)
async def test_a_label_that_does_not_fit_is_refused_by_name_and_its_sample_stays(
    http: httpx.AsyncClient, queued: Queued, label: dict[str, Any], message: str
) -> None:
    (sample_id,) = await queued(1)
    await do(http, "lease")
    assert message in await refused(http, "label", 422, sample_id=sample_id, label=label)
    assert (await stats(http))["leased"] == 1


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_numbers_that_json_does_not_have_are_refused(
    http: httpx.AsyncClient, queued: Queued, number: str
) -> None:
    (sample_id,) = await queued(1)
    fields = {**ADA, "sample_id": sample_id, "label": {"values": [[1, "?"], [3, 4]]}}
    body = json.dumps(fields).replace('"?"', number)
    reply = await http.post("/v1/queue/label", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 422
    assert "a must be [x, y]" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("operation", "fields", "where"),
    [
        ("lease", {"n": True}, "body.n"),
        ("lease", {"n": "1"}, "body.n"),
        ("lease", {"n": 0}, "body.n"),
        ("lease", {"n": 101}, "body.n"),
        ("lease", {"lease_s": 0}, "body.lease_s"),
        ("lease", {"colour": "red"}, "body.colour"),
        ("lease", {"annotator": ""}, "body.annotator"),
        ("lease", {"annotator": "\ud800"}, "body.annotator"),
        ("extend", {"lease_s": "60"}, "body.lease_s"),
        ("label", {"sample_id": "x", "label": {}}, "body.label"),
        ("label", {"sample_id": "x", "label": {"values": [], "keypoints": []}}, "body.label"),
        ("label", {"sample_id": "x", "label": {"values": "12"}}, "body.label"),
        ("label", {"sample_id": "x", "label": {"values": [], "comment": ""}}, "body.label"),
        ("reject", {"sample_id": "x"}, "body.reason"),
        ("skip", {"sample_id": 3}, "body.sample_id"),
        ("requeue", {"sample_ids": []}, "body.sample_ids"),
    ],
    ids=str,
)
async def test_the_reply_to_a_malformed_request_names_the_field(
    http: httpx.AsyncClient, operation: str, fields: dict[str, Any], where: str
) -> None:
    by = {} if operation == "requeue" else ADA
    body = json.dumps({**by, **fields})  # httpx would refuse the lone surrogate
    reply = await http.post(f"/v1/queue/{operation}", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["message"].startswith(where)


async def test_a_skipped_sample_goes_to_somebody_else(http: httpx.AsyncClient, queued: Queued) -> None:
    (sample_id,) = await queued(1)
    await do(http, "lease")
    assert await do(http, "skip", sample_id=sample_id) == {"sample_id": sample_id, "state": "skipped"}
    assert (await do(http, "lease", **OTHER))["samples"] == []
    (sample,) = (await do(http, "lease", **BOB))["samples"]
    assert sample["sample_id"] == sample_id


async def test_a_rejected_sample_is_off_the_queue_and_takes_no_label(http: httpx.AsyncClient, queued: Queued) -> None:
    (sample_id,) = await queued(1)
    await do(http, "lease")
    assert await do(http, "reject", sample_id=sample_id, reason="blurred") == {
        "sample_id": sample_id,
        "state": "rejected",
    }
    assert (await stats(http))["rejected"] == 1
    await do(http, "label", 409, sample_id=sample_id, label={"values": [[1, 2], [3, 4]]})


async def test_a_label_for_an_evicted_sample_is_refused_with_the_reason(
    open_service: OpenService, grey: Callable[..., bytes]
) -> None:
    http = await open_service(max_pending=1)
    least, _ = [(await http.post("/v1/predict", content=grey(value))).json()["sample_id"] for value in (0.8, 0.9)]
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await stats(http))["evicted"] == 1
    message = await refused(http, "label", 409, sample_id=least, label={"values": [[1, 2], [3, 4]]})
    assert "was evicted" in message


@pytest.mark.parametrize(
    ("operation", "fields"),
    [("label", {"label": {"values": [[1, 2], [3, 4]]}}), ("skip", {}), ("reject", {"reason": "blurred"})],
)
async def test_an_unknown_sample_is_not_found(http: httpx.AsyncClient, operation: str, fields: dict[str, Any]) -> None:
    assert "0" * 32 in await refused(http, operation, 404, sample_id="0" * 32, **fields)


async def test_a_sample_whose_leases_ran_out_too_often_is_dead_until_it_is_requeued(
    open_service: OpenService, grey: Callable[..., bytes]
) -> None:
    http = await open_service(audit_rate=0, max_expiries=1)
    sample_id = (await http.post("/v1/predict", content=grey(0.9))).json()["sample_id"]
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            await do(http, "lease", lease_s=0.001, annotator="ada", token=uuid.uuid4().hex)
            assert (await stats(http))["dead"] == 1
    assert (await http.post("/v1/queue/requeue", json={"sample_ids": [sample_id]})).json() == {"requeued": 1}
    assert (await http.post("/v1/queue/requeue", json={})).json() == {"requeued": 0}
    (sample,) = (await do(http, "lease", **BOB))["samples"]
    assert sample["sample_id"] == sample_id
