import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models.cli import app

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "digits" / "1"
RUN = "from models.cli import app; app(prog_name='losscast')"
WITHOUT_TORCH = f"""
import sys
from importlib.abc import MetaPathFinder

class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NoTorch())
{RUN}
"""
PLAIN = {"COLUMNS": "160", "NO_COLOR": "1"}


def losscast(*arguments: str, code: str = RUN) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a user runs it."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **PLAIN})


def invoke(*arguments: str) -> Result:
    """In this process, which has the heavy imports already."""
    return CliRunner().invoke(app, arguments, env=PLAIN, prog_name="losscast")


@pytest.mark.slow
def test_two_devices_train_one_bundle_and_end_with_the_table_that_evaluate_prints_again(tmp_path: Path) -> None:
    script = tmp_path / "losscast.py"  # each process runs the command line again, so there must be one
    script.write_text(RUN)
    options = ("--out", str(tmp_path / "store"), "--effort", "0.01", "--head", "pooled")
    command = [sys.executable, str(script), "train", "digits", *options, "--accelerator", "cpu", "--devices", "2"]
    environment = {**os.environ, **PLAIN, "PYTHONPATH": str(BUNDLE.parents[2])}
    trained = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert trained.returncode == 0, trained.stderr
    assert [path.name for path in (tmp_path / "store" / "digits").iterdir() if path.is_dir()] == ["1"]
    evaluated = invoke("evaluate", str(tmp_path / "store" / "digits" / "1"))
    assert evaluated.exit_code == 0, evaluated.stderr
    assert "within each group" in evaluated.stdout
    assert trained.stdout == evaluated.stdout


def test_analyse_prints_the_tables_of_the_paper_and_draws_them_without_torch(tmp_path: Path) -> None:
    run = losscast("analyse", "--plot", str(tmp_path / "new" / "paper.png"), code=WITHOUT_TORCH)
    assert run.returncode == 0, run.stderr
    assert "k = 4" in run.stdout
    assert "0.606811" in run.stdout
    assert (tmp_path / "new" / "paper.png").read_bytes().startswith(b"\x89PNG")


def test_analyse_fits_the_losses_of_a_file_and_counts_their_pairs(tmp_path: Path) -> None:
    (tmp_path / "losses.txt").write_text("0.2\n0.25\n0.4\n0.9\n")
    run = invoke("analyse", "--losses", str(tmp_path / "losses.txt"), "--delta", "0.1", "--margin", "0.3")
    assert run.exit_code == 0, run.stderr
    assert "4 losses: Gamma k = " in run.stdout
    counts = [line.split("│")[2].strip() for line in run.stdout.splitlines() if line.startswith("│")]
    assert counts == ["6", "1", "3", "1"]


def test_analyse_takes_the_losses_that_a_bundle_makes_on_its_test_split(tmp_path: Path) -> None:
    run = invoke("analyse", "--bundle", str(BUNDLE), "--plot", str(tmp_path / "digits.svg"))
    assert run.exit_code == 0, run.stderr
    assert "2376 losses" in run.stdout
    assert "<svg" in (tmp_path / "digits.svg").read_text()


def test_analyse_refuses_losses_that_no_gamma_law_has_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "losses.txt").write_text("0.2\n0\n0.4\n")
    run = invoke("analyse", "--losses", str(tmp_path / "losses.txt"))
    assert run.exit_code == 1
    assert run.stderr.count("\n") == 1
    assert "1 are zero of 3" in run.stderr


def test_training_without_torch_gives_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    run = losscast("train", "digits", "--out", str(tmp_path), code=WITHOUT_TORCH)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "losscast[train,cpu]" in run.stderr


@pytest.mark.parametrize("arguments", [("train", "digits"), ("evaluate", str(BUNDLE))], ids=["train", "evaluate"])
def test_without_onnx_runtime_nothing_starts_and_one_line_says_what_to_install(
    tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name.startswith("onnxruntime"):
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    out = ("--out", str(tmp_path)) if arguments[0] == "train" else ()
    run = invoke(*arguments, *out)
    assert run.exit_code == 1
    assert "pip install 'losscast[cpu]'" in run.stderr
    assert "\n" not in run.stderr.strip(), run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "faces"), "unknown task 'faces': choose one of digits"),
        (("evaluate", "no/such/folder"), "no/such/folder is not a bundle"),
        (("analyse", "--bundle", "no/such/folder"), "no/such/folder is not a bundle"),
        (("reference", "no/such/folder", "--out", "no/such/store"), "no/such/folder is not a bundle"),
        (("reference", str(BUNDLE), "--data", ".", "--out", "no/such/store"), "digits makes its own data"),
        (("analyse", "--losses", "no/such/file"), "no/such/file"),
        (("analyse", "--losses", "a.txt", "--bundle", "b"), "not both"),
        (("analyse", "--plot", "paper.xyz"), "xyz"),
    ],
)
def test_a_mistake_gives_one_line(arguments: tuple[str, ...], message: str) -> None:
    run = invoke(*arguments)
    assert run.exit_code == 1
    assert run.stderr.count("\n") == 1
    assert message in run.stderr


@pytest.mark.slow
def test_reference_publishes_the_same_model_with_its_references_and_needs_no_torch(tmp_path: Path) -> None:
    run = losscast("reference", str(BUNDLE), "--out", str(tmp_path), code=WITHOUT_TORCH)
    assert run.returncode == 0, run.stderr
    assert "references" in run.stderr  # the bar
    new = tmp_path / "digits" / "1"
    assert run.stdout == (f"{new} is live. Watched: score, ood_score, luminance, contrast, sharpness, aspect, size.\n")
    assert (new / "model.onnx").read_bytes() == (BUNDLE / "model.onnx").read_bytes()


def test_reference_names_the_task_whose_data_it_lacks_in_one_line(tmp_path: Path) -> None:
    adopted = shutil.copytree(BUNDLE, tmp_path / "1")
    fields = json.loads((adopted / "manifest.json").read_text())
    fields["provenance"]["task"] = "tilt"
    (adopted / "manifest.json").write_text(json.dumps(fields))
    run = invoke("reference", str(adopted), "--out", str(tmp_path / "store"))
    assert run.exit_code == 1
    assert run.stderr.count("\n") == 1
    assert "is of 'tilt', whose data this command does not know: adopt it again" in run.stderr


def test_reference_refuses_other_data_than_the_bundle_was_made_from(tmp_path: Path) -> None:
    other = shutil.copytree(BUNDLE, tmp_path / "1")
    manifest = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(manifest.replace("959ebaf983ab5775", "0123456789abcdef"))
    run = invoke("reference", str(other), "--out", str(tmp_path / "store"))
    assert run.exit_code == 1
    assert run.stderr.count("\n") == 1
    assert "was made from other data than these: fingerprint 0123456789abcdef, not 959ebaf983ab5775" in run.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", ["train", "evaluate", "analyse", "reference"])
def test_help_shows_an_example_and_needs_no_torch(command: str) -> None:
    run = losscast(command, "--help", code=WITHOUT_TORCH)
    assert run.returncode == 0
    assert f"losscast {command} " in run.stdout


def test_train_pose_gives_one_line_for_unusable_data(tmp_path: Path) -> None:
    without = invoke("train", "pose")
    assert (without.exit_code, without.stderr) == (
        1,
        "losscast: pose needs --data, the folder with labels.json and crops-*.tar\n",
    )
    empty = invoke("train", "pose", "--data", str(tmp_path))
    assert empty.exit_code == 1
    assert empty.stderr.startswith(f"losscast: {tmp_path} has no labels.json")
    assert empty.stderr.count("\n") == 1


def test_digits_take_no_folder(tmp_path: Path) -> None:
    run = invoke("train", "digits", "--data", str(tmp_path))
    assert (run.exit_code, run.stderr) == (1, "losscast: digits makes its own data and takes no --data\n")


def test_missing_devices_give_one_line(tmp_path: Path) -> None:
    run = invoke("train", "digits", "--out", str(tmp_path), "--accelerator", "gpu")
    assert run.exit_code == 1
    assert run.stderr.startswith("losscast: cannot train on 1 'gpu' in 32-true: ")
    assert run.stderr.count("\n") == 1
