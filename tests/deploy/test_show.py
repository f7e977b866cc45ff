"""The whole way of a page: blurred images in, drift judged, Prometheus fires, Alertmanager delivers."""

import math
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import stamina

from benchmarks.monitoring import traffic
from benchmarks.monitoring.servers import Prometheus, running_alertmanager, running_prometheus
from demo.running import running_service

CLEAN, BLURRED = 2000, 500
PATIENCE_S = 60.0
SETTINGS = {"LOSSCAST_MODELS": traffic.MODEL, "LOSSCAST_AUDIT_RATE": "0", "LOSSCAST_DRIFT_FLUSH_S": "0.5"}


def evidence(prometheus: Prometheus) -> float:
    (series,) = prometheus.now('losscast_drift_evidence_log10{signal="all"}')
    return float(series["value"][1])


def drift_of(url: str, observations: int) -> dict[str, Any]:
    """The report, once it counts that many images."""
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=PATIENCE_S, wait_max=0.2):
        with attempt:
            report: dict[str, Any] = httpx.get(f"{url}/v1/drift").json()
            assert report["observations"] == observations
    return report


@pytest.mark.slow
def test_blurred_images_page_and_clean_ones_do_not(
    servers: tuple[str, str], receiver: Any, impatient_rules: Path, repository: Path, tmp_path: Path
) -> None:
    assert all(servers)
    for name in ("alertmanager", "prometheus", "service"):
        (tmp_path / name).mkdir()
    with (
        running_service(repository / "bundles", traffic.MODEL, tmp_path / "service", **SETTINGS) as url,
        running_alertmanager(tmp_path / "alertmanager", receiver.url) as alertmanager,
        running_prometheus(
            tmp_path / "prometheus", [urlsplit(url).netloc], impatient_rules, alertmanager
        ) as prometheus,
        httpx.Client(base_url=url) as http,
    ):
        for image in islice(traffic.clean(), CLEAN):
            traffic.post(http, image)
        assert drift_of(url, CLEAN)["state"] == "stable"
        assert not prometheus.now('ALERTS{alertname=~"LosscastDrift.*"}')
        for image in islice(traffic.blurred(), BLURRED):
            traffic.post(http, image)
        report = drift_of(url, CLEAN + BLURRED)
        alert = receiver.wait_for("LosscastDrift")
        assert evidence(prometheus) > math.log10(100)
    assert report["state"] == "drift"
    assert "sharpness" in report["moved"]
    assert report["since"] is not None
    assert alert["status"] == "firing"
    assert alert["labels"] == {"alertname": "LosscastDrift", "severity": "page", "model": traffic.MODEL}
    assert alert["annotations"]["runbook_url"] == "docs/runbook.md#losscastdrift"
