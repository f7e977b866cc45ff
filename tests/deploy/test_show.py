"""The whole way of an alert: blurred images come, drift is detected, Prometheus fires, Alertmanager delivers."""

import math
from typing import Any

import pytest

from benchmarks.monitoring import traffic

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("monitored")]


def test_blurred_images_raise_an_alert_and_clean_ones_do_not(monitored: Any) -> None:
    assert monitored.clean.state == "stable"
    assert not monitored.early_alerts
    report, alert = monitored.blurred, monitored.alert
    assert report.state == "drift"
    assert "sharpness" in report.moved
    assert report.since is not None
    (evidence,) = monitored.prometheus.now('losscast_drift_evidence_log10{signal="all"}')
    assert float(evidence["value"][1]) > math.log10(100)
    assert alert["status"] == "firing"
    assert alert["labels"] == {"alertname": "LosscastDrift", "severity": "page", "model": traffic.MODEL}
    assert alert["annotations"]["runbook_url"] == "docs/runbook.md#losscastdrift"
