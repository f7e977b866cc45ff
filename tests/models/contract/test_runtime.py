import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.contract.runtime import RuntimeMissing, load_runtime, provider_options, visible_gpus


def installed(*builds: str) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name in builds:
            return "1.0"
        raise importlib.metadata.PackageNotFoundError(name)

    return version


@pytest.mark.parametrize(
    ("builds", "message"),
    [((), r"pip install 'losscast\[cpu\]'"), (("onnxruntime", "onnxruntime-gpu"), "uninstall both")],
)
def test_exactly_one_build_must_be_installed(
    monkeypatch: pytest.MonkeyPatch, builds: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", installed(*builds))
    with pytest.raises(RuntimeMissing, match=message):
        load_runtime()


def test_nothing_is_reported_or_written_to_the_users_home(tmp_path: Path) -> None:
    program = "from models.contract.runtime import load_runtime; load_runtime().SessionOptions()"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path)}, check=True, cwd=Path.cwd()
    )
    assert list(tmp_path.rglob("*")) == []


def test_a_gpu_is_told_what_a_service_needs_and_the_cpu_nothing() -> None:
    assert provider_options("CPUExecutionProvider") == {}
    assert provider_options("CUDAExecutionProvider", 1) == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }


def test_without_a_driver_no_gpu_is_visible() -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    assert visible_gpus() == 0
