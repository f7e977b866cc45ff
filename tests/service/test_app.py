"""The service as its users meet it: requests in, replies out, on real parts."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import stamina
from redis.asyncio import Redis

from service.errors import StartError
from service.labelling.journal.errors import JournalBusy
from service.redis.private_valkey import private_valkey

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
LOSSY = 0.8
PNG = {"content-type": "image/png"}


async def post(http: httpx.AsyncClient, body: bytes, path: str = "/v1/predict", **headers: str) -> httpx.Response:
    return await http.post(path, content=body, headers={**PNG, **headers})


async def lease(http: httpx.AsyncClient, n: int, token: str = "t") -> list[dict[str, Any]]:  # noqa: S107 - a lease token
    reply = await http.post("/v1/queue/lease", json={"n": n, "annotator": "ada", "token": token})
    assert reply.status_code == 200, reply.text
    samples: list[dict[str, Any]] = reply.json()["samples"]
    return samples


async def pending(http: httpx.AsyncClient, n: int) -> None:
    """Returns once n samples have come through the journal into the queue."""
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await http.get("/v1/queue/stats")).json()["pending"] == n


async def test_the_reply_has_prediction_predicted_loss_and_verdict(http: httpx.AsyncClient, grey: Grey) -> None:
    reply = await post(http, grey(0.2, size=(80, 40)), **{"x-request-id": "mine"})
    fields = reply.json()
    assert reply.status_code == 200
    assert reply.headers["x-request-id"] == fields["request_id"] == "mine"
    assert (fields["model"], fields["version"], fields["loss_unit"]) == ("tiny", "1", "pixels")
    assert fields["prediction"] == {"kind": "keypoints", "names": ["a", "b"], "values": [[20.0, 0.0], [60.0, 40.0]]}
    assert fields["predicted_loss"] == pytest.approx(np.exp(0.1), rel=0.01)  # half of the canvas is border
    assert fields["verdict"] == {"lossy": False, "reasons": [], "operating_point": "budget"}
    assert fields["queue"] == "none"


async def test_a_lossy_image_is_accepted_leased_with_its_own_bytes_and_labelled(
    http: httpx.AsyncClient, grey: Grey
) -> None:
    body = grey(LOSSY)
    fields = (await post(http, body)).json()
    assert fields["verdict"] == {"lossy": True, "reasons": ["predicted_loss"], "operating_point": "budget"}
    assert fields["queue"] == "accepted"
    await pending(http, 1)
    (sample,) = await lease(http, 5)
    assert sample["sample_id"] == fields["sample_id"]
    assert sample["prediction"]["values"] == fields["prediction"]["values"]
    image = await http.get(sample["image"])
    assert image.content == body
    assert image.headers["content-type"] == "image/png"
    request = {
        "sample_id": sample["sample_id"],
        "annotator": "ada",
        "token": "t",
        "label": {"values": [[1, 2], [3, 4]]},
    }
    assert (await http.post("/v1/queue/label", json=request)).json()["state"] == "labelled"
    stats = (await http.get("/v1/queue/stats")).json()
    assert (stats["accepted"], stats["pending"], stats["leased"], stats["labelled"]) == (1, 0, 0, 1)


async def test_metrics_tell_how_long_a_label_took_and_what_the_queue_holds(http: httpx.AsyncClient, grey: Grey) -> None:
    await post(http, grey(LOSSY))
    await post(http, grey(LOSSY, tag=1))
    await pending(http, 2)
    (sample,) = await lease(http, 1)
    label = {"values": [[1, 2], [3, 4]]}
    request = {"sample_id": sample["sample_id"], "annotator": "ada", "token": "t", "label": label}
    for _ in range(2):  # the second is a retry and not another label
        assert (await http.post("/v1/queue/label", json=request)).status_code == 200
    lines = (await http.get("/metrics")).text.splitlines()
    for line in (
        'losscast_flag_to_label_seconds_count{model="tiny"} 1.0',
        'losscast_queue_samples{model="tiny",state="pending"} 1.0',
        'losscast_queue_samples{model="tiny",state="labelled"} 1.0',
        'losscast_queue_events_total{event="accepted",model="tiny"} 2.0',
        'losscast_queue_budget_left{model="tiny"} -1.0',
    ):
        assert line in lines


async def test_a_lease_that_ran_out_returns_without_anybody_asking(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(lease_s=0.2)
    await post(http, grey(LOSSY))
    await pending(http, 1)
    assert len(await lease(http, 1)) == 1
    await pending(http, 1)  # the janitor's round


async def test_the_most_valuable_sample_is_leased_first(http: httpx.AsyncClient, grey: Grey) -> None:
    for brightness in (0.7, 0.99, 0.6, 0.9):
        await post(http, grey(brightness))
    await pending(http, 4)
    scores = [sample["score"] for sample in await lease(http, 4)]
    assert scores == pytest.approx([0.99, 0.9, 0.7, 0.6], abs=0.01)


async def test_whatever_its_verdict_an_image_drawn_for_audit_is_queued_with_its_probability(
    open_service: OpenService, grey: Grey
) -> None:
    http = await open_service(audit_rate=1)
    reply = await post(http, grey(0.2), **{"x-source": "camera 7"})
    assert reply.json()["verdict"]["lossy"] is False
    assert reply.json()["queue"] == "accepted"
    await pending(http, 1)
    (sample,) = await lease(http, 1)
    assert sample["sample_id"] == reply.json()["sample_id"]
    assert sample["reasons"] == []
    assert 'losscast_audited_total{model="tiny"} 1.0' in (await http.get("/metrics")).text


async def test_about_the_stated_share_of_all_images_is_drawn(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(audit_rate=0.2)
    replies = [await post(http, grey(0.2, tag=tag)) for tag in range(400)]
    drawn = sum(reply.json()["queue"] == "accepted" for reply in replies)
    assert 80 - 5 * 8 < drawn < 80 + 5 * 8  # five standard deviations of a binomial count


@pytest.mark.parametrize("source", [b"", b"x" * 129, b"a\tb", "caméra".encode(), "caméra".encode("latin-1")])
async def test_a_source_that_is_none_is_refused(http: httpx.AsyncClient, grey: Grey, source: bytes) -> None:
    reply = await http.post(
        "/v1/predict", content=grey(0.2), headers={b"content-type": b"image/png", b"x-source": source}
    )
    assert reply.status_code == 400
    assert "X-Source" in reply.json()["error"]["message"]


async def test_the_same_image_twice_is_one_sample(http: httpx.AsyncClient, grey: Grey) -> None:
    ids = {(await post(http, grey(LOSSY))).json()["sample_id"] for _ in range(3)}
    assert len(ids) == 1
    await pending(http, 1)


async def test_a_number_that_is_not_finite_is_a_model_fault_and_its_image_is_not_queued(
    open_service: OpenService, make_store: Callable[..., Path], brightness_text: str, grey: Grey
) -> None:
    store = make_store(brightness_text.replace("predicted_loss = Exp (score)", "predicted_loss = Div (one, score)"))
    http = await open_service(bundles=store)
    reply = await post(http, grey(0.0))
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "model_fault"
    assert (await post(http, grey(0.5))).status_code == 200


async def test_with_keys_every_path_but_the_probes_needs_one(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(api_keys="secret,other")
    assert (await post(http, grey(0.2))).status_code == 401
    assert (await post(http, grey(0.2))).headers["www-authenticate"] == "Bearer"
    assert (await post(http, grey(0.2), authorization="Bearer wrong")).status_code == 403
    assert (await post(http, grey(0.2), authorization="Basic secret")).status_code == 401
    assert (await post(http, grey(0.2), authorization="Bearer other")).status_code == 200
    assert (await http.get("/v1/queue/stats")).status_code == 401
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics", "/docs", "/docs-files/swagger-ui-bundle.js"):
        assert (await http.get(path)).status_code == 200


async def test_health_models_and_docs_answer(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v2/health/live")).json() == {"live": True}
    assert (await http.get("/v2/health/ready")).json() == {"ready": True}
    versions = [{"version": "1", "state": "READY", "reason": ""}]
    assert (await http.get("/v1/models")).json() == {
        "default": "tiny",
        "models": [{"name": "tiny", "live": "1", "versions": versions}],
    }
    tiny = (await http.get("/v1/models/tiny")).json()
    assert tiny["versions"] == versions
    assert tiny["tuning"]["max_batch"] == max(tiny["tuning"]["batch_sizes"])
    assert (await http.get("/v1/models/tiny")).json()["operating_point"] == "budget"
    assert "://" not in (await http.get("/docs")).text  # nothing is loaded from elsewhere
    schema = (await http.get("/openapi.json")).json()
    assert set(schema["paths"]["/v1/predict"]["post"]["requestBody"]["content"]) == {
        "image/jpeg",
        "image/png",
        "image/webp",
        "multipart/form-data",
    }


async def test_metrics_count_what_happened(http: httpx.AsyncClient, grey: Grey) -> None:
    await post(http, grey(0.2))
    await post(http, grey(LOSSY))
    await post(http, b"")
    await pending(http, 1)
    lines = (await http.get("/metrics")).text.splitlines()
    for line in (
        'losscast_requests_total{code="200",endpoint="/v1/predict"} 2.0',
        'losscast_requests_total{code="400",endpoint="/v1/predict"} 1.0',
        'losscast_verdicts_total{model="tiny",verdict="passed"} 1.0',
        'losscast_verdicts_total{model="tiny",verdict="lossy"} 1.0',
        'losscast_flags_total{model="tiny",reason="predicted_loss"} 1.0',
        'losscast_samples_total{model="tiny",queue="accepted"} 1.0',
        'losscast_predicted_loss_count{model="tiny"} 2.0',
        'losscast_station_seconds_count{model="tiny",station="decode"} 2.0',
        'losscast_station_seconds_count{model="tiny",station="journal"} 1.0',
        'losscast_queue_samples{model="tiny",state="pending"} 1.0',
        'losscast_queue_up{model="tiny"} 1.0',
        'losscast_model_info{model="tiny",version="1"} 1.0',
    ):
        assert line in lines


async def test_the_same_samples_are_there_at_the_next_start(
    open_service: OpenService, grey: Grey, tiny_store: Path, tmp_path: Path
) -> None:
    from service.app import create_app  # noqa: PLC0415 - opened and closed by hand in this test alone
    from service.settings import Settings  # noqa: PLC0415 - as above

    app = create_app(Settings(bundles=tiny_store, model="tiny", state=tmp_path / "state"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as first,
    ):
        sample = (await post(first, grey(LOSSY))).json()["sample_id"]
        await pending(first, 1)
    second = await open_service()
    assert [one["sample_id"] for one in await lease(second, 5)] == [sample]


async def test_predictions_go_on_while_redis_is_away(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(redis_url="redis://127.0.0.1:1/0", redis_timeout_s=0.5)
    assert (await post(http, grey(LOSSY))).json()["queue"] == "accepted"
    stats = await http.get("/v1/queue/stats")
    assert stats.status_code == 503
    assert stats.headers["retry-after"]
    lines = (await http.get("/metrics")).text.splitlines()
    assert 'losscast_queue_up{model="tiny"} 0.0' in lines
    assert "losscast_journal_rows 1.0" in lines


async def test_a_queue_that_refuses_us_hides_no_other_metric(
    open_service: OpenService, grey: Grey, tmp_path: Path
) -> None:
    async with private_valkey(tmp_path / "other") as socket:
        client = Redis(unix_socket_path=str(socket))
        await client.acl_setuser("guest", enabled=True, passwords=["+secret"], commands=["+@all"], keys=["other*"])
        await client.aclose()
        http = await open_service(redis_url=f"unix://guest:secret@{socket}")
        assert (await post(http, grey(LOSSY))).json()["queue"] == "accepted"
        metrics = await http.get("/metrics")
        assert metrics.status_code == 200
        assert 'losscast_queue_up{model="tiny"} 0.0' in metrics.text.splitlines()


async def test_a_full_journal_costs_the_sample_and_not_the_prediction(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(redis_url="redis://127.0.0.1:1/0", journal_max_rows=1)
    assert (await post(http, grey(LOSSY, tag=1))).json()["queue"] == "accepted"
    reply = await post(http, grey(LOSSY, tag=2))
    assert reply.status_code == 200
    assert reply.json()["queue"] == "unavailable"


async def test_two_services_cannot_share_a_state_folder(open_service: OpenService) -> None:
    await open_service()
    with pytest.raises(JournalBusy):
        await open_service()


async def test_an_unknown_operating_point_stops_the_start(open_service: OpenService) -> None:
    with pytest.raises(StartError, match="set LOSSCAST_OPERATING_POINT to one of budget"):
        await open_service(operating_point="none")
