"""The layout holds: layers of imports, doors of large dependencies, sizes of files, contents of the wheel."""

import ast
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = [*REPOSITORY.glob("service/**/*.py"), *REPOSITORY.glob("models/**/*.py"), REPOSITORY / "losscast.py"]
MAX_LINES = 320

# Brought by the extras train and demo. The container images and a plain installation lack them.
ONLY_FOR_TRAINING = (
    "torch",
    "lightning",
    "lightning_fabric",
    "matplotlib",
    "onnx",
    "onnxscript",
    "scipy",
    "sklearn",
)

BLOCK = f"""
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ONLY_FOR_TRAINING}:
            raise ModuleNotFoundError(name + " is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""
IMPORT_ALL = """
for package_name in ("service", "models.contract"):
    package = importlib.import_module(package_name)
    for module in pkgutil.walk_packages(package.__path__, package_name + "."):
        print(importlib.import_module(module.name).__name__)
"""
RUN = """
import losscast
sys.argv = ["losscast", *sys.argv[1:]]
losscast.main()
"""


def test_imports_follow_the_contracts_of_pyproject() -> None:
    command = [str(Path(sysconfig.get_path("scripts")) / "lint-imports"), "--no-cache", "--no-logo"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_whole_online_side_imports_without_torch_and_the_other_packages_of_training() -> None:
    result = _python("-W", "error", "-c", BLOCK + IMPORT_ALL)
    assert result.returncode == 0, result.stderr
    assert {"service.app", "service.cli", "models.contract.manifest"} <= set(result.stdout.split())


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["train", "--help"]])
def test_the_help_of_every_side_prints_without_the_packages_of_training(arguments: list[str]) -> None:
    result = _python("-c", BLOCK + RUN, *arguments)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("package", "files"),
    [
        ("onnxruntime", {"models/contract/runtime.py"}),
        ("opentelemetry", {"service/telemetry/spans.py"}),
        (
            "prometheus_client",
            {
                *(f"service/telemetry/{name}.py" for name in ("collectors", "families", "metrics")),
                "models/refinement/by_itself/metrics.py",
            },
        ),
        ("structlog", {"service/telemetry/logs.py"}),
    ],
)
def test_only_these_files_import_a_large_dependency(package: str, files: set[str]) -> None:
    importers = {path for path in SOURCES if package in _imported_packages(path)}
    assert importers == {REPOSITORY / file for file in files}


def test_importing_a_package_runs_nothing() -> None:
    filled = {path for path in SOURCES if path.name == "__init__.py" and path.read_text().strip()}
    assert filled == {REPOSITORY / "service" / "client" / "__init__.py"}  # it only names what users import


def test_the_wheel_has_every_source_the_scripts_of_redis_and_the_markers_of_typed_packages() -> None:
    shipped = {file.distribution_path for file in WheelBuilder(str(REPOSITORY)).recurse_included_files()}
    scripts = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("service/**/*.lua")}
    assert len(scripts) > 30
    assert shipped >= {str(path.relative_to(REPOSITORY)) for path in SOURCES} | scripts
    assert {"service/py.typed", "models/py.typed"} <= shipped


def test_no_file_has_outgrown_one_idea() -> None:
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_tests_are_no_packages() -> None:
    assert not list(REPOSITORY.glob("tests/**/__init__.py"))


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def _imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    return set(_imports(ast.parse(path.read_text())))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
