"""The Dockerfile: linted, and checked as far as possible without building it."""

import http.server
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import ValidationError

from service.settings import Settings


def test_hadolint_finds_nothing_and_no_rule_is_ignored(repository: Path, scripts: Path) -> None:
    command = [str(scripts / "hadolint"), "--disable-ignore-pragma", "--failure-threshold", "style", "Dockerfile"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert not list(repository.glob(".hadolint.y*ml"))


def test_the_base_image_is_one_pinned_slim_python_that_the_project_supports(dockerfile: list[Any]) -> None:
    pinned = [i.text for i in dockerfile if i.keyword == "ARG" and "python:" in i.text]
    assert [re.fullmatch(r"PYTHON_IMAGE=python:3\.(1[1-9])\.\d+-slim-\w+", text) is not None for text in pinned] == [
        True
    ]
    assert [i.text.split()[0] for i in dockerfile if i.keyword == "FROM"] == ["${PYTHON_IMAGE}"] * 2


def test_the_runtime_is_gpu_by_default_and_names_an_extra_and_a_provider(
    dockerfile: list[Any], image_environment: dict[str, str], repository: Path
) -> None:
    assert [i.text for i in dockerfile if i.keyword == "ARG" and "RUNTIME" in i.text] == ["RUNTIME=gpu"] * 2
    assert image_environment["LOSSCAST_PROVIDER"] == "${RUNTIME}"
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for runtime in ("cpu", "gpu"):
        assert runtime in extras
        assert Settings.model_validate({"provider": runtime}).provider == runtime


def test_it_runs_as_a_numbered_user_who_is_not_root(dockerfile: list[Any]) -> None:
    assert [i.text for i in dockerfile if i.keyword == "USER"] == ["10001:10001"]
    assert any("--uid 10001" in i.text for i in dockerfile if i.keyword == "RUN")


def test_state_lies_on_the_volume_and_the_port_is_exposed(
    dockerfile: list[Any], image_environment: dict[str, str]
) -> None:
    declared = {i.keyword: i.text for i in dockerfile}
    assert image_environment["LOSSCAST_STATE"] == declared["VOLUME"]
    assert image_environment["LOSSCAST_PORT"] == declared["EXPOSE"]


def test_the_image_environment_is_accepted_with_keys_and_refused_without(
    image_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in image_environment.items():
        if name.startswith("LOSSCAST_"):
            monkeypatch.setenv(name, value.replace("${RUNTIME}", "gpu"))
    monkeypatch.delenv("LOSSCAST_API_KEYS", raising=False)
    with pytest.raises(ValidationError, match="LOSSCAST_API_KEYS"):
        Settings()
    monkeypatch.setenv("LOSSCAST_API_KEYS", "a-key")
    assert Settings().host == "0.0.0.0"  # noqa: S104 - inside a container, behind a published port


def test_python_imports_nothing_from_the_working_directory(image_environment: dict[str, str]) -> None:
    assert image_environment["PYTHONSAFEPATH"] == "1"


def test_onnx_runtime_sends_no_telemetry(image_environment: dict[str, str], tmp_path: Path) -> None:
    variable = "ORT_DISABLE_TELEMETRY"
    kept = {}
    for name, environment in {"plain": {}, "image": {variable: image_environment[variable]}}.items():
        home = tmp_path / name
        home.mkdir()
        command = [sys.executable, "-c", "import onnxruntime; onnxruntime.SessionOptions()"]
        subprocess.run(command, env={"HOME": str(home), **environment}, check=True)
        kept[name] = [path for path in home.rglob("*") if path.is_file()]
    assert kept["image"] == []
    if not kept["plain"]:
        pytest.skip("this build of ONNX Runtime keeps no record anyway")


def test_stopping_and_starting_reach_the_service_itself(dockerfile: list[Any]) -> None:
    declared = {i.keyword: i for i in dockerfile}
    assert declared["STOPSIGNAL"].text == "SIGTERM"
    assert declared["CMD"].command == ["losscast", "serve"]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_readiness(dockerfile: list[Any], status: int, healthy: bool) -> None:  # noqa: FBT001 - a case
    check = next(i for i in dockerfile if i.keyword == "HEALTHCHECK").command
    with _serving(status) as (port, paths):
        assert (_run_check(check, port) == 0) is healthy
    assert paths == ["/v2/health/ready"]


def test_the_health_check_fails_when_nothing_listens(dockerfile: list[Any]) -> None:
    check = next(i for i in dockerfile if i.keyword == "HEALTHCHECK").command
    with _serving(200) as (port, _):
        pass
    assert _run_check(check, port) != 0


def test_the_image_has_the_versions_that_these_tests_run_with(dockerfile: list[Any], repository: Path) -> None:
    installs = [
        i.text for i in dockerfile if i.keyword == "RUN" and "pip install" in i.text and "--no-index" not in i.text
    ]
    assert len(installs) == 1
    assert "--constraint constraints.txt" in installs[0]
    pins = [Requirement(line) for line in (repository / "constraints.txt").read_text().split()]
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins}
    installed = {canonicalize_name(one.name): one.version for one in distributions()}  # one build of ONNX Runtime
    assert "EXTRAS=otel" in [i.text for i in dockerfile if i.keyword == "ARG"]
    for text in _requirements(installs[0], repository, "otel"):
        name = canonicalize_name(Requirement(text).name)
        assert name in pinned, "not in constraints.txt: run make lock"
        assert name not in installed or pinned[name].contains(installed[name]), name


def test_an_image_that_refines_also_has_what_training_needs(dockerfile: list[Any], repository: Path) -> None:
    (install,) = (i.text for i in dockerfile if i.keyword == "RUN" and "--requirement" in i.text)
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(_requirements(install, repository, "otel,train")) >= {*extras["train"], *extras["otel"], *extras["cpu"]}
    assert not set(_requirements(install, repository, "otel")) & set(extras["train"])


def _requirements(install: str, repository: Path, extras: str) -> list[str]:
    """What the build writes into its list of requirements, by the command that it runs."""
    command = install[install.index("python -c") : install.index(" > /tmp/requirements.txt")]
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "RUNTIME": "cpu", "EXTRAS": extras}
    shell = ["/bin/sh", "-c", command]
    done = subprocess.run(shell, cwd=repository, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_change_of_code_keeps_the_layer_of_dependencies(dockerfile: list[Any]) -> None:
    steps = [i.text for i in dockerfile if i.keyword in {"COPY", "RUN"}]
    install = next(index for index, step in enumerate(steps) if "--requirement" in step)
    assert steps[:install] == ["pyproject.toml constraints.txt ./"]


def test_copied_files_exist_and_are_not_ignored(dockerfile: list[Any], repository: Path) -> None:
    sources = [
        name
        for i in dockerfile
        if i.keyword == "COPY" and "--from" not in i.text
        for name in i.text.split()[:-1]
        if not name.startswith("--")
    ]
    assert {"pyproject.toml", "LICENSE", "service/", "models/", "bundles/"} <= set(sources)
    patterns = _ignore_patterns(repository)
    for source in sources:
        assert (repository / source).exists(), source
        assert not _ignored(source.rstrip("/"), patterns), source


def test_nothing_else_reaches_the_build_context(repository: Path) -> None:
    patterns = _ignore_patterns(repository)
    for path in (
        ".git",
        ".env",
        ".venv/bin/python",
        ".losscast/journal",
        "tests/deploy",
        "shared",
        "service/__pycache__",
    ):
        assert _ignored(path, patterns), path
    for path in ("service/app.py", "models/contract/manifest.py", "bundles/pose/1/model.onnx"):
        assert not _ignored(path, patterns), path


def _run_check(command: list[str], port: int) -> int:
    assert command[0] == "python"
    environment = {**os.environ, "LOSSCAST_PORT": str(port)}
    return subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, check=False).returncode


@contextmanager
def _serving(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server on loopback that answers every GET with `status` and keeps the paths asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keeps the test's output quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, paths
        finally:
            server.shutdown()
            thread.join()


def _ignore_patterns(repository: Path) -> list[tuple[bool, re.Pattern[str]]]:
    """.dockerignore as (excludes, pattern) in order. The syntax in use: *, ** and leading !."""
    lines = [
        line for line in (repository / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    return [(not line.startswith("!"), _as_regex(line.removeprefix("!"))) for line in lines]


def _as_regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.compile(text + "(?:/.*)?")  # a folder that matches includes everything below it


def _ignored(path: str, patterns: list[tuple[bool, re.Pattern[str]]]) -> bool:
    decisions = [excludes for excludes, pattern in patterns if pattern.fullmatch(path)]
    return bool(decisions) and decisions[-1]
