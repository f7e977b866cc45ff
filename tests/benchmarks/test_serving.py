"""The serving benchmark: its quick form for real, its arithmetic, and the page that shows its tables."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from benchmarks.serving.contestants import FLOOR
from benchmarks.serving.gpu import COLUMNS, on_gpu, table
from benchmarks.serving.load import requests
from benchmarks.serving.material import CHUNK, FLAGGED, Material, prepare
from benchmarks.serving.pipeline import Pipeline
from benchmarks.serving.processes import tree
from benchmarks.serving.ratios import AT_MOST, Spread, Target, cpu_ms, rounds_of, spread, throughput
from benchmarks.serving.report import tables
from benchmarks.serving.soak import slope_per_100k
from models.contract.bundle import read_manifest
from service.inference.decode import decode

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 120  # more than the embedding has numbers: the distance is fitted to them
PAGE, RESULTS = ROOT / "docs" / "serving.md", ROOT / "benchmarks" / "serving" / "results"


def server(cpu: float, per_s: float) -> dict[str, Any]:
    load = {"per_s": per_s, "cpu_ms": cpu, "p50_ms": 1.0, "p99_ms": 2.0}
    return {"clients=8": load | {"per_s": per_s / 2}, "clients=32": load, "poisson": load, "memory": {"mb": 100.0}}


VISITS = {
    f"tiny/{name}/{number}": server(cpu + number, per_s)
    for number in range(3)
    for name, cpu, per_s in (("losscast", 1.0, 900.0), ("mosec", 2.0, 600.0), ("fastapi", 4.0, 300.0))
} | {f"tiny/{FLOOR}/0": {FLOOR: {"per_s": 2000.0, "cpu_ms": 0.5, "alone_ms": 0.4}}}


def test_ratios_are_made_within_a_round_and_only_from_rounds_that_have_both() -> None:
    rounds = rounds_of({"visits": VISITS}, "tiny")
    assert spread(rounds, lambda r: cpu_ms(r["mosec"]) / cpu_ms(r["losscast"])) == Spread(1.5, 4 / 3, 2.0)
    assert spread(rounds, lambda r: cpu_ms(r["losscast"]) / cpu_ms(r[FLOOR])) == Spread(2.0, 2.0, 2.0)
    assert spread(rounds, lambda r: throughput(r["losscast"]) / throughput(r["bentoml"])) is None
    assert rounds_of({"visits": VISITS}, "keypoints") == []


def test_a_target_is_met_by_the_median_on_the_right_side_of_its_bound() -> None:
    target = Target("tiny", "cost", AT_MOST, 1.0, lambda _: 0.0)
    assert target.met(Spread(0.9, 0.5, 1.2))
    assert not target.met(Spread(1.1, 0.5, 1.2))


def test_the_tables_show_the_results_and_the_missed_targets() -> None:
    text = tables({"visits": VISITS, "chosen": {}})
    assert "| tiny | throughput / mosec's | ≥ 0.85 | 1.500 (1.500 to 1.500) | yes | 3.33 |" in text
    assert "| tiny | throughput / plain FastAPI's | ≥ 4 | 3.000 (3.000 to 3.000) | **no** | 6.67 |" in text
    assert "LitServe" not in text.split("| Settings")[0].split("CPU ms/request")[1]


def test_no_two_requests_are_equal_and_each_says_its_length() -> None:
    waiting = requests([b"\xff\xd8\xffone", b"\xff\xd8\xfftwo"], "/predict", "image/jpeg", 0)
    made = [next(waiting) for _ in range(50)]
    assert len(set(made)) == 50
    for request in made:
        head, _, body = request.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head


def test_a_tree_holds_the_children_of_children() -> None:
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '60'], check=False)"]
    with subprocess.Popen(command) as process:
        while len(tree(process.pid)) < 2:
            pass
        found = tree(process.pid)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
    assert found[0] == process.pid


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Material]:
    """Both keypoint bundles and their images; exporting takes a while."""
    return prepare(tmp_path_factory.mktemp("serving"), ["keypoints"], IMAGES)


@pytest.mark.slow
def test_both_keypoint_bundles_predict_the_same_and_one_forecasts_every_keypoints_loss(
    material: dict[str, Material],
) -> None:
    pipeline = Pipeline(material["keypoints"].bundle)
    point = pipeline.manifest.operating_points["budget"]
    files = sorted(material["keypoints"].images.iterdir())
    assert len({file.read_bytes() for file in files}) == IMAGES
    pictures = [decode(file.read_bytes(), pipeline.manifest.preprocessing, 10**6) for file in files[:CHUNK]]
    rows = pipeline.infer(pictures)
    assert all(np.isfinite(row.prediction).all() and row.keypoint_loss is not None for row in rows)
    assert point.level == FLAGGED
    bare = Pipeline(material["bare"].bundle).infer(pictures[:3])
    for with_forecast, without in zip(rows[:3], bare, strict=True):
        assert without.prediction == pytest.approx(with_forecast.prediction, abs=1e-2)
        assert without.keypoint_loss is None


@pytest.mark.slow
def test_a_quick_run_measures_the_service_beside_fastapi_and_the_floor(tmp_path: Path) -> None:
    places = ["--cache", str(tmp_path), "--out", str(tmp_path), "--picture", str(tmp_path / "serving.png")]
    command = [sys.executable, "-m", "benchmarks.serving", "--quick", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = orjson.loads((tmp_path / "serving.json").read_bytes())
    assert set(results["visits"]) == {"tiny/floor/0", "tiny/losscast/0", "tiny/fastapi/0"}
    assert all(cell["requests"] > 0 for cell in _loads(results["visits"]["tiny/losscast/0"]))
    assert read_manifest(tmp_path / "tiny" / "digits" / "1").operating_points["budget"].level == FLAGGED
    assert "| Losscast |" in (tmp_path / "serving.md").read_text()
    assert (tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")


def _loads(cells: dict[str, Any]) -> list[dict[str, float]]:
    return [cell for name, cell in cells.items() if name.startswith("clients=") or name == "poisson"]


def test_a_slope_is_distinguished_from_no_slope() -> None:
    rng = np.random.default_rng(0)
    at = range(10_000, 210_000, 10_000)
    flat = [(n, 100 + float(rng.normal(0, 0.5))) for n in at]
    slope, margin = slope_per_100k(flat)
    assert abs(slope) < margin
    slope, margin = slope_per_100k([(n, mb + n / 1e5) for n, mb in flat])
    assert slope - margin > 0.5


@pytest.mark.slow
def test_the_gpu_benchmark_measures_every_precision_where_its_provider_is_there(material: dict[str, Material]) -> None:
    rows = on_gpu(material["keypoints"], 0.1, "cpu", (1, 2))
    assert [(row["precision"], row["batch"]) for row in rows] == [("fp32", 1), ("fp32", 2), ("fp16", 1), ("fp16", 2)]
    assert all(row[name] > 0 for row in rows for name in COLUMNS)
    served = {"clients": 2, "per_s": 1.0, "p50_ms": 1.0, "p99_ms": 1.0, "cpu_ms": 1.0}
    assert table(rows, served).count("\n") == 8


@pytest.mark.parametrize("name", ["serving.md", "gpu.md"])
def test_the_page_shows_the_tables_that_the_benchmark_wrote(name: str) -> None:
    written = (RESULTS / name).read_text().strip()
    assert written
    assert written in PAGE.read_text()
