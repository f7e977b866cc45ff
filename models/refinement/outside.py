"""Any program can train: it gets a snapshot, and leaves weights or an ONNX file.

    CMD SNAPSHOT PARENT OUT

SNAPSHOT is the snapshot's folder (`models.contract.snapshot`), PARENT the folder of the live version with its
model.onnx, OUT an empty folder. The program leaves one of two files there and ends with code 0: `weights.pt`, a state
dict of the regressor, or `model.onnx`, a whole graph with the outputs of a bundle.
"""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from torch import Tensor

from models.contract.manifest import Manifest
from models.networks.regressors import Regressor
from models.refinement.config import RefinementError

WEIGHTS, GRAPH = "weights.pt", "model.onnx"


class Left(NamedTuple):
    """What the program left; exactly one of the two."""

    weights: Mapping[str, Tensor] | None
    graph: bytes | None


def train_outside(command: str, snapshot: Path, parent: Path, out: Path) -> Left:
    """Runs the program, unless it has left its file in an earlier run that was cut off later.

    Raises RefinementError when it fails or leaves nothing that can be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = out / "done"
    if not done.exists():
        _run([*shlex.split(command), *(str(folder.resolve()) for folder in (snapshot, parent, out))], command)
        done.touch()
    if (out / WEIGHTS).exists():
        return Left(_weights(out / WEIGHTS), None)
    if (out / GRAPH).exists():
        return Left(None, (out / GRAPH).read_bytes())
    done.unlink()
    raise RefinementError(f"{command!r} left neither {WEIGHTS} nor {GRAPH} in {out}")


def load_weights(regressor: Regressor, weights: Mapping[str, Tensor]) -> None:
    """Raises RefinementError unless the weights are those of such a network, and finite."""
    try:
        regressor.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise RefinementError(f"the weights are of another network: {' '.join(str(error).split())[:300]}") from error
    wrong = [name for name, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if wrong:
        raise RefinementError(f"the weights are not finite, first in {wrong[0]}")
    regressor.eval()


def check_graph(data: bytes, parent: Manifest) -> None:
    """Raises RefinementError unless the graph has the input and the outputs of the parent's."""
    try:
        graph = onnx.load_from_string(data).graph
    except Exception as error:  # protobuf has errors of several kinds
        raise RefinementError(f"{GRAPH} is not an ONNX file: {error}") from error
    missing = parent.output_shapes.keys() - {output.name for output in graph.output}
    if missing or [one.name for one in graph.input] != ["image"]:
        raise RefinementError(
            f"{GRAPH} must take `image` and give {', '.join(parent.output_shapes)}"
            f"{'; it lacks ' + ', '.join(sorted(missing)) if missing else ''}: or leave {WEIGHTS}"
        )


def _run(arguments: list[str], command: str) -> None:
    try:
        code = subprocess.run(arguments, check=False).returncode  # noqa: S603 - the user's own program
    except OSError as error:
        raise RefinementError(f"{command!r} cannot be started ({error.strerror})") from error
    if code:
        raise RefinementError(f"{command!r} ended with code {code}; it has said why")


def _weights(path: Path) -> Mapping[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip have errors of several kinds
        raise RefinementError(f"{path} is not a state dict saved by torch.save: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise RefinementError(f"{path} is not a state dict: tensors by name")
    return found
