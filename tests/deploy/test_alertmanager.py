"""Alertmanager: its configuration, its place in the compose file, and an alert that arrives at a receiver."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.monitoring.servers import free_port, running_alertmanager, running_prometheus


def test_amtool_accepts_the_configuration(amtool: str, repository: Path) -> None:
    command = [amtool, "check-config", "deploy/alertmanager/alertmanager.yml"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_sends_to_the_alertmanager_of_the_compose_file(
    configuration: dict[str, Any], compose: dict[str, Any]
) -> None:
    (group,) = configuration["alerting"]["alertmanagers"]
    ((host, port),) = (target.split(":") for one in group["static_configs"] for target in one["targets"])
    service = compose["services"][host]
    assert [published.rsplit(":", 1)[1] for published in service["ports"]] == [port]
    assert set(service["networks"]) & set(compose["services"]["prometheus"]["networks"])
    mounts = dict(mount.split(":")[:2] for mount in service["volumes"])
    assert f"--config.file={mounts['./deploy/alertmanager/alertmanager.yml']}" in service["command"]


def test_every_route_leads_to_a_receiver(routing: dict[str, Any]) -> None:
    receivers = {receiver["name"] for receiver in routing["receivers"]}
    routes = [routing["route"], *routing["route"]["routes"]]
    assert {route["receiver"] for route in routes} <= receivers


def test_inhibit_rules_name_only_alerts_that_exist(routing: dict[str, Any], alerts: list[dict[str, Any]]) -> None:
    names = {alert["alert"] for alert in alerts}
    for rule in routing["inhibit_rules"]:
        named = re.findall(r"Losscast\w+", " ".join([*rule["source_matchers"], *rule["target_matchers"]]))
        assert set(named) <= names


@pytest.mark.slow
def test_a_firing_alert_arrives_at_the_receiver(
    servers: tuple[str, str], receiver: Any, impatient_rules: Path, tmp_path: Path
) -> None:
    assert all(servers)
    nobody = f"127.0.0.1:{free_port()}"
    for folder in ("alertmanager", "prometheus"):
        (tmp_path / folder).mkdir()
    with (
        running_alertmanager(tmp_path / "alertmanager", receiver.url) as alertmanager,
        running_prometheus(tmp_path / "prometheus", [nobody], impatient_rules, alertmanager),
    ):
        alert = receiver.wait_for("LosscastDown")
    assert alert["status"] == "firing"
    assert alert["labels"] == {"alertname": "LosscastDown", "severity": "page", "job": "losscast", "instance": nobody}
    assert alert["annotations"]["summary"] == f"{nobody} does not answer Prometheus"
    assert alert["annotations"]["runbook_url"] == "docs/runbook.md#losscastdown"
