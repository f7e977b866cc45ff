import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.contract.bundle import read_manifest
from models.publishing.export import state_dict
from models.refinement.config import RefinementConfig, RefinementError
from models.refinement.fine_tuning import fine_tune
from models.refinement.outside import train_outside
from models.tasks.digits import Digits
from models.training.config import silent
from models.training.loop import Trainer

ARGUMENTS = "import shutil, sys\nsnapshot, parent, out = sys.argv[1:]\n"
COPIES = ARGUMENTS + "shutil.copy(parent + '/model.onnx', out)\n"
TEACHES = (
    ARGUMENTS
    + """
from pathlib import Path
import torch
from models.publishing.export import state_dict
weights = state_dict(Path(parent, "model.onnx").read_bytes(), "regressor")
weights |= {name.replace("weight", "num_batches_tracked"): torch.tensor(0) for name in weights if ".1.weight" in name}
torch.save({**weights, "votes.bias": weights["votes.bias"] + BIAS}, out + "/weights.pt")
"""
)


def program(folder: Path, code: str) -> str:
    (folder / "program.py").write_text(code)
    return f"{sys.executable} {folder / 'program.py'}"


def test_a_program_that_leaves_a_graph_makes_a_candidate(
    tmp_path: Path, parent: Path, few_digits: Digits, snapshot: Path, quick: RefinementConfig
) -> None:
    config = replace(quick, command=program(tmp_path, COPIES))
    made = fine_tune(parent, few_digits, snapshot, config, silent, Trainer.start(folder=tmp_path / "work"))
    assert made.onnx == (parent / "model.onnx").read_bytes()
    assert made.manifest.operating_points["budget"].calibration_size == 110 + 80
    assert made.manifest.provenance.parent_version == "1"
    assert "program.py" in made.network
    assert made.manifest.onnx_sha256 == read_manifest(parent).onnx_sha256


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(3)", "ended with code 3"),
        ("", "left neither weights.pt nor model.onnx"),
        (ARGUMENTS + "open(out + '/weights.pt', 'w').write('x')", "not a state dict"),
        (ARGUMENTS + "import torch; torch.save([1], out + '/weights.pt')", "tensors by name"),
    ],
)
def test_a_program_that_fails_is_refused_with_the_reason(
    tmp_path: Path, parent: Path, snapshot: Path, code: str, message: str
) -> None:
    with pytest.raises(RefinementError, match=message):
        train_outside(program(tmp_path, code), snapshot, parent, tmp_path / "out")


def test_a_program_that_does_not_exist_is_named(tmp_path: Path, parent: Path, snapshot: Path) -> None:
    with pytest.raises(RefinementError, match="'nowhere-to-be-found' cannot be started"):
        train_outside("nowhere-to-be-found", snapshot, parent, tmp_path / "out")


def test_a_program_that_has_ended_does_not_run_again(tmp_path: Path, parent: Path, snapshot: Path) -> None:
    command = program(tmp_path, COPIES)
    first = train_outside(command, snapshot, parent, tmp_path / "out")
    (tmp_path / "program.py").unlink()
    assert train_outside(command, snapshot, parent, tmp_path / "out") == first


@pytest.mark.parametrize(("bias", "message"), [("float('nan')", "not finite"), ("0.0", "")])
def test_weights_are_checked_and_mixed(  # noqa: PLR0913, PLR0917 - fixtures
    tmp_path: Path,
    parent: Path,
    few_digits: Digits,
    snapshot: Path,
    quick: RefinementConfig,
    bias: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.refinement.fine_tuning._finish", lambda _lesson, regressor, *_, **__: regressor)
    config = replace(quick, command=program(tmp_path, TEACHES.replace("BIAS", bias)))
    trainer = Trainer.start(folder=tmp_path / "work")
    if message:
        with pytest.raises(RefinementError, match=message):
            fine_tune(parent, few_digits, snapshot, config, silent, trainer)
        return
    regressor = fine_tune(parent, few_digits, snapshot, config, silent, trainer)
    expected = state_dict((parent / "model.onnx").read_bytes(), "regressor")["votes.bias"]
    assert torch.equal(regressor.state_dict()["votes.bias"], expected)  # type: ignore[attr-defined]  # see above
