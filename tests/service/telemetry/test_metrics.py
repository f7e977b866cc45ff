"""What the metrics tell of what happened: who was refused, what is live, how drift stands."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from models.contract.manifest import Manifest
from service.errors import ServiceError
from service.inference.outcome import Forecast, Outcome
from service.inference.verdict import Verdict
from service.schemas.drift import DriftReport, LossEstimate, OodRate, SignalReport
from service.telemetry.metrics import CLIENT_LEFT, Metrics

Grey = Callable[..., bytes]
OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
PNG = {"content-type": "image/png"}
NUMBERS = np.zeros(2, np.float32)
ANSWERED = Outcome(
    request_id="r",
    sample_id="s",
    model="tiny",
    version="1",
    prediction=np.zeros(2),
    forecast=Forecast(NUMBERS, 0.0, 0.5, 0.0, NUMBERS),
    verdict=Verdict(lossy=False, reasons=(), operating_point="budget"),
    value=0.0,
    ood_value=0.0,
    audited=False,
    station_s={"decode": 0.25, "wait": 0.5, "infer": 1.0, "total": 2.0},
)


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


async def rejected(http: httpx.AsyncClient) -> dict[str, float]:
    """Refusals by reason, those that did not occur left out."""
    series = [line for line in (await http.get("/metrics")).text.splitlines() if "rejected_total{" in line]
    counts = {line.split('"')[1]: float(line.split()[-1]) for line in series}
    return {reason: count for reason, count in counts.items() if count}


def report(**changes: Any) -> DriftReport:
    signal = SignalReport(
        name="score",
        evidence=1.5,
        shift=0.25,
        since=None,
        is_named=False,
        design_effect=1.0,
        edges=[0.5],
        reference=[0.5, 0.5],
        window=[0.25, 0.75],
        psi=0.125,
        psi_null=0.01,
        ks=0.25,
    )
    fields: dict[str, Any] = {
        "model": "tiny",
        "version": "1",
        "state": "warning",
        "reason": "r",
        "evidence": 2.5,
        "threshold": 2.0,
        "since": None,
        "observations": 100,
        "thinned": 0,
        "not_finite": 0,
        "window_s": 3600.0,
        "loss": LossEstimate(
            value=0.5, low=0.25, high=0.75, reference=0.375, unit="px", assumes_head=True, audit_labels=0
        ),
        "ood": OodRate(rate=0.5, low=0.25, high=0.75, reference=0.05),
        "embedding_shift": 3.0,
        "moved": [],
        "summary": "s",
        "advice": "a",
        "signals": [signal, signal.model_copy(update={"name": "size", "evidence": 0.5})],
        "not_watched": [],
        "updated_at": 0.0,
    }
    return DriftReport(**{**fields, **changes})


async def test_what_is_refused_is_counted_by_its_error(http: httpx.AsyncClient, grey: Grey) -> None:
    assert await rejected(http) == {}
    for path in ("/v1/predict", "/v1/models/tiny/predict", "/v2/models/tiny/infer"):
        await http.post(path, content=b"", headers=PNG)
    await http.post("/v1/predict", content=b"x", headers={"content-type": "text/plain"})
    await http.post("/v1/models/nobody/predict", content=grey(0.2), headers=PNG)
    await http.post("/v1/predict", content=grey(0.2), headers=PNG)
    assert await rejected(http) == {"malformed": 3, "unsupported_image": 1, "not_found": 1}


async def test_what_is_no_prediction_is_not_counted_as_one_refused(http: httpx.AsyncClient) -> None:
    await http.get("/v1/predict")
    await http.get("/v1/nothing")
    await http.post("/v1/queue/lease", json={})
    assert await rejected(http) == {}


async def test_callers_without_a_key_are_counted(open_service: OpenService, grey: Grey) -> None:
    http = await open_service(api_keys="secret")
    await http.post("/v1/predict", content=grey(0.2), headers=PNG)
    await http.post("/v1/predict", content=grey(0.2), headers={**PNG, "authorization": "Bearer guess"})
    assert await rejected(http) == {"unauthorized": 1, "forbidden": 1}


async def test_each_image_of_a_form_that_fails_is_counted(http: httpx.AsyncClient, grey: Grey) -> None:
    files = [("image", (str(at), body, "image/png")) for at, body in enumerate((grey(0.2), b"", b"\x89PNG\r\n"))]
    reply = await http.post("/v1/predict", files=files)
    failed = [result["error"]["code"] for result in reply.json()["results"] if "error" in result]
    assert reply.status_code == 200
    assert await rejected(http) == {code: failed.count(code) for code in failed}
    assert len(failed) == 2


def test_every_code_of_an_error_is_there_from_zero_on() -> None:
    def kinds(kind: type[ServiceError]) -> set[type[ServiceError]]:
        return {kind}.union(*map(kinds, kind.__subclasses__()))

    told = lines(Metrics())
    for code in {kind.code for kind in kinds(ServiceError)} | {CLIENT_LEFT}:
        assert f'losscast_rejected_total{{reason="{code}"}} 0.0' in told


def test_the_live_version_takes_the_place_of_the_one_before_and_of_its_drift() -> None:
    metrics = Metrics("gpu")
    metrics.live("tiny", "1")
    metrics.drift(report())
    metrics.live("tiny", "2")
    told = lines(metrics)
    assert [line for line in told if line.startswith("losscast_model_info{")] == [
        'losscast_model_info{model="tiny",version="2"} 1.0'
    ]
    assert [line for line in told if line.startswith("losscast_engine_info{")] == [
        'losscast_engine_info{model="tiny",provider="gpu",version="2"} 1.0'
    ]
    assert not [line for line in told if line.startswith("losscast_drift_state{")]
    metrics.live("tiny", None)
    assert not [line for line in lines(metrics) if line.startswith(("losscast_model_info{", "losscast_engine_info{"))]


def test_a_drift_report_is_told_in_full() -> None:
    metrics = Metrics()
    metrics.drift(report())
    told = lines(metrics)
    for line in (
        'losscast_drift_state{model="tiny",state="warning"} 1.0',
        'losscast_drift_state{model="tiny",state="drift"} 0.0',
        'losscast_drift_state{model="tiny",state="stable"} 0.0',
        'losscast_drift_state{model="tiny",state="insufficient_data"} 0.0',
        'losscast_drift_evidence_log10{model="tiny",signal="all"} 2.5',
        'losscast_drift_evidence_log10{model="tiny",signal="score"} 1.5',
        'losscast_drift_evidence_log10{model="tiny",signal="size"} 0.5',
        'losscast_drift_threshold_log10{model="tiny"} 2.0',
        'losscast_drift_shift{model="tiny",signal="score"} 0.25',
        'losscast_drift_psi{model="tiny",signal="score"} 0.125',
        'losscast_drift_embedding_shift{model="tiny"} 3.0',
        'losscast_estimated_loss{model="tiny"} 0.5',
        'losscast_estimated_loss_low{model="tiny"} 0.25',
        'losscast_estimated_loss_high{model="tiny"} 0.75',
        'losscast_reference_loss{model="tiny"} 0.375',
        'losscast_ood_exceedance_ratio{model="tiny"} 0.5',
    ):
        assert line in told


def test_what_a_report_cannot_tell_has_no_series_and_what_the_last_one_told_is_gone() -> None:
    metrics = Metrics()
    metrics.drift(report())
    metrics.drift(report(state="stable", loss=None, ood=None, embedding_shift=None, signals=[]))
    series = [line for line in lines(metrics) if 'model="tiny"' in line]
    assert 'losscast_drift_state{model="tiny",state="warning"} 0.0' in series
    assert 'losscast_drift_state{model="tiny",state="stable"} 1.0' in series
    gone = ("losscast_estimated_loss", "losscast_reference", "losscast_ood_exceedance", "losscast_drift_embedding")
    assert not [line for line in series if line.startswith(gone)]
    assert not [line for line in series if 'signal="score"' in line]


@pytest.mark.parametrize(("nats", "below"), [(0.0, "0.1"), (0.7, "0.6"), (1e9, "+Inf")])
def test_ranks_fall_between_edges_that_are_the_same_for_every_version(
    tiny_version: Manifest, nats: float, below: str
) -> None:
    metrics = Metrics()
    metrics.for_model(tiny_version).observe(replace(ANSWERED, value=nats, ood_value=nats), 1)
    for name in ("predicted_loss_rank", "ood_score_rank"):
        buckets = [line for line in lines(metrics) if line.startswith(f"losscast_{name}_bucket{{")]
        edges = [line.split('le="')[1].split('"')[0] for line in buckets]
        counts = [float(line.split()[-1]) for line in buckets]
        assert edges[:2] + edges[-2:] == ["0.1", "0.2", "0.999", "+Inf"]
        assert edges[counts.index(1.0)] == below


def test_two_versions_of_a_model_add_up_in_one_series(tiny_version: Manifest) -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.for_model(tiny_version).observe(ANSWERED, 1)
    assert 'losscast_verdicts_total{model="tiny",verdict="passed"} 2.0' in lines(metrics)


def test_requests_of_one_kind_share_a_series() -> None:
    metrics = Metrics()
    for code in (200, 200, 404):
        metrics.request("/v1/predict", code)
    told = lines(metrics)
    assert 'losscast_requests_total{code="200",endpoint="/v1/predict"} 2.0' in told
    assert 'losscast_requests_total{code="404",endpoint="/v1/predict"} 1.0' in told


async def test_the_program_and_the_engine_are_named(http: httpx.AsyncClient) -> None:
    told = (await http.get("/metrics")).text
    assert 'losscast_engine_info{model="tiny",provider="cpu",version="1"} 1.0' in told
    (build,) = [line for line in told.splitlines() if line.startswith("losscast_build_info{")]
    assert all(f'{label}="' in build for label in ("version", "python", "onnxruntime"))
