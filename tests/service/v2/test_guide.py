"""docs/v2.md keeps its word: its script runs against a real service, and its paths exist."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "v2.md").read_text()
(SCRIPT,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
ADDRESS, MODEL = '"127.0.0.1:8000"', '"pose"'


def test_the_script_prints_a_line_for_each_photo(service_url: str, tmp_path: Path, grey: Callable[..., bytes]) -> None:
    (tmp_path / "photos").mkdir()
    for name, brightness in (("a.png", 0.2), ("b.png", 0.8)):
        (tmp_path / "photos" / name).write_bytes(grey(brightness))
    assert ADDRESS in SCRIPT
    assert MODEL in SCRIPT
    script = SCRIPT.replace(ADDRESS, repr(service_url.removeprefix("http://"))).replace(MODEL, '"tiny"')
    command = [sys.executable, "-W", "error", "-c", script]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.split() == ["a.png", "(2,", "2)", "1.22"]
    assert second.split() == ["b.png", "(2,", "2)", "2.23", "lossy"]


def test_every_path_of_the_protocol_is_in_the_guide_and_documented(service_url: str) -> None:
    documented = httpx.get(f"{service_url}/openapi.json").json()["paths"]
    paths = {path for path in documented if path.startswith("/v2")}
    ends = {path.rpartition("/")[2] for path in paths if not path.endswith("}")}
    assert {"v2", "live", "ready", "config", "stats", "infer", "index", "load", "unload"} == ends
    assert all(end in GUIDE for end in ends)
    assert {"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} <= paths
