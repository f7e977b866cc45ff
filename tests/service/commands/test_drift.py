import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from service.commands.drift import draw, sparkline
from service.schemas.drift import DriftReport, SignalReport

pytestmark = pytest.mark.xdist_group("commands")

Losscast = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def report() -> DriftReport:
    signal = SignalReport(
        name="sharpness",
        evidence=12.3,
        shift=-0.3,
        since=1_800_000_000.0,
        is_named=True,
        design_effect=1.5,
        edges=[1.0, 2.0],
        reference=[0.25, 0.5, 0.25],
        window=[0.8, 0.15, 0.05],
        psi=1.2,
        psi_null=0.01,
        ks=0.55,
    )
    return DriftReport(
        model="gaze",
        version="3",
        state="warning",
        reason="Why.",
        evidence=11.5,
        threshold=2.0,
        since=1_800_000_000.0,
        observations=500,
        thinned=7,
        not_finite=0,
        window_s=3600.0,
        loss=None,
        ood=None,
        embedding_shift=0.5,
        moved=["sharpness"],
        summary="Images are blurred.",
        advice="Check focus.",
        signals=[signal] * 4,
        not_watched=["size"],
        updated_at=1_800_000_100.0,
    )


@pytest.mark.parametrize(
    ("shares", "full", "line"),
    [
        ([0.0, 0.5, 1.0], 1.0, "▁▅█"),
        ([0.1, 0.2], 0.2, "▅█"),
        ([0.0, 0.0], 0.0, "▁▁"),
        ([], 1.0, ""),
    ],
)
def test_a_sparkline_has_a_bar_for_each_share(shares: list[float], full: float, line: str) -> None:
    assert sparkline(shares, full) == line


def test_a_report_is_printed_with_a_row_of_bars_for_each_signal(losscast: Losscast) -> None:
    result = losscast("drift", COLUMNS="80")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny 1: insufficient_data")
    assert lines[2].startswith("To do: ")
    assert any("ood_score" in line and "█" in line for line in lines)
    assert "…" not in result.stdout  # nothing is cut off
    assert "Not watched, because the bundle has no reference for them: luminance" in result.stdout


def test_json_is_the_report_as_the_service_gives_it(losscast: Losscast) -> None:
    fields = json.loads(losscast("drift", "--json", "--model", "tiny").stdout)
    assert DriftReport.model_validate(fields).model == "tiny"


def test_an_unknown_model_is_one_line(losscast: Losscast) -> None:
    result = losscast("drift", "-m", "other")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "losscast: there is no model 'other': known here are tiny\n"


@pytest.mark.parametrize(("name", "start"), [("drift.png", b"\x89PNG"), ("drift.svg", b"<?xml")])
def test_a_drawing_is_of_the_kind_that_its_name_says(
    report: DriftReport, tmp_path: Path, name: str, start: bytes
) -> None:
    draw(report, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["drift.xyz", "nowhere/drift.png"])
def test_a_drawing_that_cannot_be_written_is_one_line(
    report: DriftReport, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        draw(report, tmp_path / name)
    assert capsys.readouterr().err.startswith(f"losscast: {tmp_path / name} cannot be drawn: ")


def test_without_matplotlib_it_says_what_to_install(
    report: DriftReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(typer.Exit):
        draw(report, tmp_path / "drift.png")
    assert "pip install 'losscast[plot]'" in capsys.readouterr().err
