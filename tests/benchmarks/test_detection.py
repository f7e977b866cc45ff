"""The comparison of failure scores runs from a folder of photographs to its page, and the page shows what it wrote."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.detection import corruptions, digits, report, selection
from benchmarks.detection.compare import ahead
from benchmarks.detection.rivals import Scores
from benchmarks.detection.shift import RULES
from models.contract.bundle import read_manifest
from models.networks.heatmap import HeatmapNet, HeatmapNetConfig

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/detection/results"
RNG = np.random.default_rng(0)


def write_photographs(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("pose_photographs", ROOT / "tests/models/tasks/pose_photographs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_pose_folder(folder)


@pytest.mark.slow
def test_a_tiny_run_writes_figures_of_every_score(tmp_path: Path) -> None:
    data, trunks = tmp_path / "data", tmp_path / "trunks"
    data.mkdir()
    write_photographs(data)
    for seed in (0, 1):
        torch.manual_seed(seed)
        (trunks / f"trunk-{seed}").mkdir(parents=True)
        torch.save(HeatmapNet(HeatmapNetConfig(14)).state_dict(), trunks / f"trunk-{seed}" / "weights.pt")
    places = {"data": data, "trunks": trunks, "cache": tmp_path / "cache", "out": tmp_path, "pictures": tmp_path}
    options = [text for name, place in places.items() for text in (f"--{name}", str(place))]
    command = [sys.executable, "-m", "benchmarks.detection", *options, "--seeds", "1", "--threads", "1", "--tiny"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    record = json.loads((tmp_path / "detection.json").read_text())
    assert {"keypoint head", "ensemble of the trunks", "dropout, 20 passes", "oracle"} <= set(record["figures"])
    assert record["figures"]["oracle"]["one_minus_naurc"]["mean"] == pytest.approx(1)
    assert record["figures"]["random"]["one_minus_naurc"]["mean"] == pytest.approx(0)
    assert record["shift"]["kinds"].keys() == set(corruptions.KINDS)
    assert (tmp_path / "detection-coverage.png").stat().st_size < 200_000
    assert (tmp_path / "detection-shift.png").stat().st_size < 200_000


@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_a_corruption_grows_with_its_strength_and_is_the_same_each_time(kind: str) -> None:
    images = RNG.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    targets = RNG.uniform(10, 50, (4, 5, 2)).astype(np.float32)
    weak, strong, again = (corruptions.spoil(images, targets, kind, strength)[0] for strength in (1, 5, 5))
    assert np.array_equal(strong, again)
    if kind != "rotation":
        assert np.abs(strong.astype(int) - images).mean() > np.abs(weak.astype(int) - images).mean()


def test_rotation_takes_the_keypoints_with_it() -> None:
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[0, 20, 40] = 255
    spoilt, targets = corruptions.spoil(images, np.array([[[40.5, 20.5]]], np.float32), "rotation", 2)
    row, column = np.unravel_index(spoilt[0, ..., 0].argmax(), (64, 64))
    assert targets[0, 0].tolist() == pytest.approx([column + 0.5, row + 0.5], abs=0.1)


def test_an_unknown_corruption_or_strength_is_refused() -> None:
    images, targets = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 1, 2), np.float32)
    with pytest.raises(ValueError, match="unknown corruption"):
        corruptions.spoil(images, targets, "sunshine", 1)
    with pytest.raises(ValueError, match="strength"):
        corruptions.spoil(images, targets, "blur", 9)


def test_simultaneous_intervals_hold_the_difference_and_tell_a_better_score_from_a_worse_one() -> None:
    losses = RNG.gamma(2, 1, 400)
    noisy = {
        name: [[Scores(losses + RNG.normal(0, s, 400))]] for name, s in (("good", 0.5), ("bad", 5.0), ("same", 0.5))
    }
    found = ahead("good", noisy, [losses], 200)
    assert found["bad"]["low"] > 0
    assert found["same"]["low"] < 0 < found["same"]["high"]
    assert all(row["low"] <= row["mean"] <= row["high"] for row in found.values())


@pytest.mark.parametrize(
    ("rule", "order"),
    [
        ("score alone", [3, 1, 2, 0]),
        ("OOD flag first, by OOD score", [1, 0, 3, 2]),
        ("OOD flag first, by score", [1, 0, 3, 2]),
        ("smaller tail share", [1, 3, 2, 0]),
        ("smallest flag budget, a tenth for OOD", [1, 3, 2, 0]),
    ],
)
def test_each_way_to_rank_by_both_scores_gives_its_order(rule: str, order: list[int]) -> None:
    known = RNG.uniform(0, 1, 500), RNG.uniform(0, 1, 500)
    images = np.array([0.9999, 0.1, 0.5, 0.05]), np.array([0.1, 0.2, 9.0, 8.0])
    assert RULES[rule](images, known).argsort().tolist() == order


@pytest.mark.slow
def test_a_tiny_selection_writes_a_row_for_every_choice(tmp_path: Path) -> None:
    data, weights = tmp_path / "data", tmp_path / "weights.pt"
    data.mkdir()
    write_photographs(data)
    torch.save(HeatmapNet(HeatmapNetConfig(14)).state_dict(), weights)
    places = {"data": data, "trunk": weights, "cache": tmp_path / "cache", "out": tmp_path}
    options = [text for name, place in places.items() for text in (f"--{name}", str(place))]
    command = [sys.executable, "-m", "benchmarks.detection.selection", *options, "--threads", "1", "--tiny"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    table = (tmp_path / "selection.md").read_text()
    assert "| as shipped |" in table
    assert "| held-out images alone |" in table


@pytest.mark.slow
def test_a_tiny_run_on_digits_writes_figures_of_every_score(tmp_path: Path) -> None:
    options = ("--out", str(tmp_path), "--seeds", "1", "--threads", "1", "--tiny")
    command = [sys.executable, "-m", "benchmarks.detection.digits", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    record = json.loads((tmp_path / "digits.json").read_text())
    assert {*digits.HEADS, "heteroscedastic head", "nearest neighbours", "oracle"} <= set(record["figures"])
    assert record["figures"]["oracle"]["one_minus_naurc"]["mean"] == pytest.approx(1)


def test_figures_of_digits_are_of_the_digits_that_ship() -> None:
    made = json.loads((RESULTS / "digits.json").read_text())["conditions"]
    assert made["data_fingerprint"] == read_manifest(ROOT / "bundles" / made["bundle"]).provenance.data_fingerprint


STATED = {  # row of the page's first table -> figure, and what it is shown times
    "1 - nAURC": ("one_minus_naurc", 1),
    "AUROC, loss > .5": ("failure_auroc", 1),
    "rank correlation": ("rank_correlation", 1),
    "share of the oracle's cut at 80 %": ("share_of_oracle_cut", 1),
    "AUROC of joints, error > .5 torso": ("keypoint_auroc", 1),
    "mean predicted loss, off by": ("mean_error", -100),
    "worst decile, off by": ("decile_error_worst", 100),
}


def test_the_figures_on_the_page_are_the_measured_ones() -> None:
    page, record = ((ROOT / "docs/detection.md").read_text(), json.loads((RESULTS / "detection.json").read_text()))
    rows = {row.split("|")[1].strip(): row.split("|")[3] for row in page.splitlines() if row.startswith("| ")}
    for title, (figure, times) in STATED.items():
        found, measured = rows[title].replace(" %", "").split("/"), record["figures"][record["shipped"]][figure]
        exact = [times * measured["mean"], times * measured["worst"]]
        assert [float(one) for one in found] == pytest.approx(exact, abs=0.051 if abs(times) > 1 else 0.00051), title
    shift = float(rows["AUROC under corruptions, both scores ranked as chosen: by the score"])
    assert shift == pytest.approx(record["shift"]["all"]["all together"][record["shipped"]], abs=0.00051)


@pytest.mark.parametrize(
    ("name", "written"),
    [("detection", report.tables), ("selection", selection.tables), ("digits", report.digits_tables)],
)
def test_the_page_shows_the_tables_that_the_benchmark_wrote(name: str, written: Callable[[Any], str]) -> None:
    tables = (RESULTS / f"{name}.md").read_text()
    assert tables == written(json.loads((RESULTS / f"{name}.json").read_text()))
    assert tables.strip() in (ROOT / "docs/detection.md").read_text()
