"""The compose files are valid and complete, and open no more than they should."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.commands.refine import refine
from service.settings import Settings

OF_CLIENTS = {"LOSSCAST_URL", "LOSSCAST_API_KEY"}
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")


@pytest.mark.parametrize("name", FILES)
def test_it_fits_the_compose_specification(repository: Path, name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", name]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["Dockerfile", *FILES])
def test_every_losscast_variable_it_names_is_a_setting(repository: Path, name: str) -> None:
    named = set(re.findall(r"LOSSCAST_\w+", (repository / name).read_text()))
    assert named <= {f"LOSSCAST_{field.upper()}" for field in Settings.model_fields} | OF_CLIENTS


def test_the_service_its_queue_and_its_monitoring_are_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"losscast", "refine", "redis", "prometheus", "alertmanager", "grafana"}
    assert compose["services"]["losscast"]["environment"]["LOSSCAST_REDIS_URL"].startswith("redis://redis:")


def test_the_refiner_is_started_on_request_only_and_shares_the_store_with_the_service(compose: dict[str, Any]) -> None:
    service, refiner = compose["services"]["losscast"], compose["services"]["refine"]
    assert refiner["profiles"] == ["refine"]
    assert "bundles:/opt/losscast/bundles" in service["volumes"]
    assert "bundles:/opt/losscast/bundles" in refiner["volumes"]
    assert refiner["command"][refiner["command"].index("--store") + 1] == "/opt/losscast/bundles"
    assert "--promote" not in refiner["command"]


def test_the_refiner_is_scraped_where_it_serves_its_metrics(
    compose: dict[str, Any], configuration: dict[str, Any]
) -> None:
    (job,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "refiner")
    (names,) = job["dns_sd_configs"]
    assert names["names"] == ["refine"]
    assert f":{names['port']}/metrics" in " ".join(compose["services"]["refine"]["healthcheck"]["test"])
    assert names["port"] == inspect.signature(refine).parameters["metrics_port"].default


def test_secrets_have_no_default_and_a_missing_one_says_what_to_set(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for value in (
        services["losscast"]["environment"]["LOSSCAST_API_KEYS"],
        services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"],
    ):
        assert re.fullmatch(r"\$\{\w+:\?set it to .+\}", value)


def test_ports_are_published_on_loopback_only_and_redis_has_none(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in compose["services"]["redis"]
    assert compose["services"]["redis"]["networks"] == ["queue"]
    assert compose["networks"]["queue"] == {"internal": True}


def test_every_container_is_unprivileged_read_only_and_restarts(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_foreign_images_are_pinned_and_have_a_health_check(compose: dict[str, Any]) -> None:
    foreign = [service for service in compose["services"].values() if "build" not in service]
    assert len(foreign) == 4
    for service in foreign:
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), service["image"]
        assert service["healthcheck"]["test"][0] == "CMD"


def test_redis_keeps_acknowledged_writes_and_drops_nothing_silently(compose: dict[str, Any]) -> None:
    command = compose["services"]["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "everysec"
    assert options["--maxmemory-policy"] == "noeviction"


def test_a_stop_leaves_time_to_answer_accepted_requests(compose: dict[str, Any]) -> None:
    grace_s = int(compose["services"]["losscast"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings.model_fields["request_timeout_s"].default


def test_mounted_files_are_in_the_repository_and_volumes_are_declared(
    compose: dict[str, Any], repository: Path
) -> None:
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (repository / source).exists(), source
                assert mount.endswith(":ro"), mount
            else:
                assert source in compose["volumes"], source


def test_data_that_must_outlive_a_container_is_on_a_volume(
    compose: dict[str, Any], image_environment: dict[str, str]
) -> None:
    mounted = {mount.split(":")[1] for service in compose["services"].values() for mount in service.get("volumes", [])}
    assert {image_environment["LOSSCAST_STATE"], "/data", "/prometheus", "/alertmanager", "/var/lib/grafana"} <= mounted


def test_only_the_override_asks_for_a_gpu(compose: dict[str, Any], gpu_override: dict[str, Any]) -> None:
    plain, gpu = compose["services"]["losscast"], gpu_override["services"]["losscast"]
    assert plain["build"]["args"]["RUNTIME"] == "cpu"
    assert "deploy" not in plain
    assert gpu["build"]["args"]["RUNTIME"] == "gpu"
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert plain["image"] != gpu["image"]
