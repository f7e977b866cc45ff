"""The files around the code, read once; and the linters, which must be there in CI."""

import json
import os
import re
import shutil
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[2]


class Instruction(NamedTuple):
    keyword: str
    text: str

    @property
    def command(self) -> list[str]:
        """The exec form of CMD and of HEALTHCHECK ... CMD."""
        arguments: list[str] = json.loads(self.text[self.text.index("[") :])
        return arguments


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def dockerfile() -> list[Instruction]:
    """The instructions of the Dockerfile in order, comments left out and continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


@pytest.fixture(scope="session")
def image_environment(dockerfile: list[Instruction]) -> dict[str, str]:
    """ENV of the final stage, with the build argument RUNTIME left as it is written."""
    text = " ".join(i.text for i in dockerfile if i.keyword == "ENV")
    return dict(re.findall(r"(\w+)=(\S+)", text))


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return read_yaml("docker-compose.yml")


@pytest.fixture(scope="session")
def gpu_override() -> dict[str, Any]:
    return read_yaml("docker-compose.gpu.yml")


@pytest.fixture(scope="session")
def scripts() -> Path:
    """Where the programs of the test requirements were installed."""
    return Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("promtool is missing: CI installs the Debian package prometheus")
    if found is None:
        pytest.skip("promtool is not on PATH: install the Debian package prometheus")
    return found


@pytest.fixture(scope="session")
def configuration() -> dict[str, Any]:
    return read_yaml("deploy/prometheus/prometheus.yml")


@pytest.fixture(scope="session")
def alerts() -> list[dict[str, Any]]:
    groups = read_yaml("deploy/prometheus/rules/losscast.yml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def cases() -> list[dict[str, Any]]:
    """What promtool is told to expect of each alert, at each moment."""
    tests = read_yaml("deploy/prometheus/tests/losscast.yml")["tests"]
    return [case for test in tests for case in test["alert_rule_test"]]


@pytest.fixture(scope="session")
def provisioning() -> dict[str, dict[str, Any]]:
    """What Grafana is provisioned with, by path below deploy/grafana/provisioning."""
    root = "deploy/grafana/provisioning"
    return {name: read_yaml(f"{root}/{name}") for name in ("datasources/prometheus.yml", "dashboards/losscast.yml")}


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / name)
    return content
