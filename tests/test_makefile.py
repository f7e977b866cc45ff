"""The Makefile sets up .venv once for each target and runtime, and never with both builds of ONNX Runtime.

Here .venv/bin/python notes what it is called with instead of installing: pip itself is not what is tested.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDER = """#!/bin/sh
echo "$(basename "$0") ${LOSSCAST_PROVIDER:+$LOSSCAST_PROVIDER }$*" >> calls
case "$*" in
    *"pip show"*) for last; do :; done; test -e "$last.installed" ;;
    *"pip uninstall"*) rm -f onnxruntime.installed onnxruntime-gpu.installed ;;
    *".[cpu"*) touch onnxruntime.installed ;;
    *".[gpu"*) touch onnxruntime-gpu.installed ;;
esac
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder with the Makefile and a .venv whose programs write their arguments into `calls`."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "losscast"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    return tmp_path


def run_make(house: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ours = ("LOSSCAST_", "MAKE", "RUNTIME")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [shutil.which("make") or "make", *arguments]
    return subprocess.run(command, cwd=house, check=False, capture_output=True, text=True, env=environment)


def make(house: Path, *arguments: str) -> list[str]:
    """The arguments with which the programs of .venv were called, without the questions to pip."""
    calls = house / "calls"
    calls.unlink(missing_ok=True)
    done = run_make(house, *arguments)
    assert done.returncode == 0, done.stderr
    return [line for line in calls.read_text().splitlines() if "pip show" not in line]


def installed(house: Path) -> list[str]:
    return sorted(path.stem for path in house.glob("*.installed"))


def test_a_target_installs_once_and_again_when_what_it_needs_has_changed(house: Path) -> None:
    first, again = make(house, "run"), make(house, "run")
    assert "--constraint constraints.txt --editable .[cpu]" in first[0]
    assert again == first[1:] == ["losscast cpu serve"]
    newer = (house / ".venv/run-cpu").stat().st_mtime_ns + 10**9
    os.utime(house / "constraints.txt", ns=(newer, newer))
    assert make(house, "run") == first


def test_another_runtime_replaces_the_build_and_going_back_does_too(house: Path) -> None:
    make(house, "run")
    make(house, "test")
    assert installed(house) == ["onnxruntime"]
    calls = make(house, "run", "RUNTIME=gpu")
    assert [call for call in calls if "uninstall" in call]
    assert calls[-1] == "losscast gpu serve"
    assert installed(house) == ["onnxruntime-gpu"]
    assert any(".[cpu,train,demo,otel,test]" in call for call in make(house, "test"))
    assert installed(house) == ["onnxruntime"]
    assert [path.name for path in (house / ".venv").glob("*-*")] == ["test-cpu"]


def test_an_unknown_runtime_is_refused(house: Path) -> None:
    done = run_make(house, "run", "RUNTIME=tpu")
    assert done.returncode != 0
    assert "RUNTIME is cpu or gpu, not 'tpu'" in done.stderr
