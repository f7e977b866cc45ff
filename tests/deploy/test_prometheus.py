"""Prometheus' configuration and alerts, judged by its own tool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.metrics import Metrics


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["check", "config"], "prometheus.yml"),
        (["check", "rules"], "rules/*.yml"),
        (["test", "rules"], "tests/*.yml"),
    ],
    ids=["configuration", "rules", "cases"],
)
def test_promtool_accepts(promtool: str, repository: Path, arguments: list[str], pattern: str) -> None:
    files = sorted((repository / "deploy/prometheus").glob(pattern))
    assert files
    result = subprocess.run([promtool, *arguments, *files], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_case_that_fires_it_and_one_that_does_not(
    alerts: list[dict[str, Any]], cases: list[dict[str, Any]]
) -> None:
    for alert in alerts:
        expected = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == alert["alert"]]
        assert set(expected) == {True, False}, alert["alert"]


def test_every_alert_says_how_urgent_it_is_and_what_to_do(alerts: list[dict[str, Any]]) -> None:
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert set(alert["annotations"]) == {"summary", "description"}
        assert "for" in alert


def test_alerts_ask_only_about_metrics_that_the_service_exports(alerts: list[dict[str, Any]], repository: Path) -> None:
    declared = set(re.findall(r"^# TYPE (\w+)", Metrics().render().decode(), re.MULTILINE))
    watched = set(re.findall(r'"(losscast_\w+)"', (repository / "service/app.py").read_text()))
    counters = {f"{name}_total" for name in watched}  # a reading is named without the _total of its exposition
    for alert in alerts:
        asked = set(re.findall(r"\blosscast_\w+", str(alert)))
        assert asked <= declared | watched | counters, alert["alert"]


def test_the_service_is_scraped_where_compose_runs_it(
    configuration: dict[str, Any], compose: dict[str, Any], image_environment: dict[str, str]
) -> None:
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    assert jobs["losscast"]["static_configs"] == [{"targets": [f"losscast:{image_environment['LOSSCAST_PORT']}"]}]
    assert "losscast" in compose["services"]
    assert jobs["losscast"].get("metrics_path", "/metrics") == "/metrics"


def test_rules_are_mounted_where_the_configuration_looks_for_them(
    configuration: dict[str, Any], compose: dict[str, Any]
) -> None:
    mounts = dict(mount.split(":")[:2] for mount in compose["services"]["prometheus"]["volumes"])
    assert mounts["./deploy/prometheus/prometheus.yml"] == "/etc/prometheus/prometheus.yml"
    assert mounts["./deploy/prometheus/rules"] == "/etc/prometheus/rules"
    assert configuration["rule_files"] == ["rules/*.yml"]
