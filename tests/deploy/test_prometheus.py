"""Prometheus' configuration and alerts, checked by promtool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest


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
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert "for" in alert or "increase(" in alert["expr"]  # it looks back anyway


def test_every_alert_has_its_section_of_the_runbook_and_every_section_its_alert(
    alerts: list[dict[str, Any]], repository: Path
) -> None:
    titles = re.findall(r"^## (.+)$", (repository / "docs/runbook.md").read_text(), re.MULTILINE)
    assert [alert["alert"] for alert in alerts] == titles
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


def test_every_section_of_the_runbook_has_urgency_look_and_do(alerts: list[dict[str, Any]], repository: Path) -> None:
    sections = re.split(r"^## ", (repository / "docs/runbook.md").read_text(), flags=re.MULTILINE)[1:]
    for alert, section in zip(alerts, sections, strict=True):
        assert section.split("\n\n")[1].startswith(f"*{alert['labels']['severity'].capitalize()}. ")
        assert re.search(r"^\*\*Look\.\*\* ", section, re.MULTILINE)
        assert re.search(r"^\*\*Do\.\*\* ", section, re.MULTILINE)


def test_the_operations_guide_lists_every_alert_with_its_severity(
    alerts: list[dict[str, Any]], repository: Path
) -> None:
    rows = re.findall(r"^\| `(Losscast\w+)` \| (\w+) \|", (repository / "docs/operations.md").read_text(), re.MULTILINE)
    assert rows == [(alert["alert"], alert["labels"]["severity"]) for alert in alerts]


def test_links_within_the_runbook_have_targets(alerts: list[dict[str, Any]], repository: Path) -> None:
    text = (repository / "docs/runbook.md").read_text()
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= {alert["alert"].lower() for alert in alerts}


def test_alerts_and_runbook_use_only_metrics_that_the_service_exports(
    alerts: list[dict[str, Any]], repository: Path
) -> None:
    listed = set(re.findall(r"^\| `(losscast_\w+)`", (repository / "docs/metrics.md").read_text(), re.MULTILINE))
    series = listed | {f"{name}_{end}" for name in listed for end in ("bucket", "count", "sum")}
    texts = {alert["alert"]: str(alert) for alert in alerts}
    texts["runbook"] = (repository / "docs/runbook.md").read_text()
    for name, text in texts.items():
        assert set(re.findall(r"\blosscast_\w+", text)) <= series, name


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
