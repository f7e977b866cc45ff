"""The weights of a version: read from its ONNX, chosen to learn or to stay, and mixed with its child's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.contract.bundle import read_manifest, read_onnx
from models.networks.regressors import Features, Regressor, normalise
from models.publishing.export import PARITY_TOLERANCE, run_onnx, state_dict
from models.refinement.config import Arm, RefinementError
from models.tasks.protocol import RegressionTask
from models.training.loop import reproducible

COUNTER = "num_batches_tracked"  # batch normalisation's count of batches, which no ONNX has
PROBE = 2  # canvases of noise on which the network must predict what the ONNX predicts

Weights = dict[str, Tensor]


def load_parent(parent: Path, task: RegressionTask, build: Callable[[], Regressor]) -> Regressor:
    """The regressor of the version in `parent`, in eval mode. build: makes one of the same architecture.

    Raises RefinementError when the weights do not fit, and BundleError when the version is damaged.
    """
    manifest = read_manifest(parent)
    if manifest.task != task.task or manifest.preprocessing != task.preprocessing:
        raise RefinementError(
            f"{parent} was made for another task than {task.task.name!r}: points, units or canvas differ"
        )
    onnx = read_onnx(parent, manifest)
    with reproducible(0):
        regressor = build()
    try:
        found = regressor.load_state_dict(state_dict(onnx, "regressor"), strict=False)
    except RuntimeError as error:
        raise RefinementError(f"{parent} has another network than the one of {task.task.name!r} here") from error
    missing = [name for name in found.missing_keys if not name.endswith(COUNTER)]
    own = {name for name, _ in regressor.named_buffers()}  # some are settings, which no state dict has and the ONNX has
    unexpected = [name for name in found.unexpected_keys if name not in own]
    if missing or unexpected:
        name = (*missing, *unexpected)[0]
        raise RefinementError(
            f"{parent} has another network than the one of {task.task.name!r} here: they differ in {name}"
        )
    _check_predictions(regressor.eval(), onnx, parent)
    return regressor


def _check_predictions(regressor: Regressor, onnx: bytes, parent: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (PROBE, *_canvas(parent)), np.uint8)
    with torch.no_grad():
        ours = regressor(normalise(torch.from_numpy(images))).prediction.numpy()
    theirs = run_onnx(onnx, images)["prediction"]
    if not np.allclose(ours, theirs, atol=PARITY_TOLERANCE * max(1.0, float(np.abs(theirs).max()))):
        raise RefinementError(f"{parent}: its network predicts other numbers than its ONNX; train the model again")


def _canvas(parent: Path) -> tuple[int, int, int]:
    return read_manifest(parent).preprocessing.canvas_shape


class TunedPart(nn.Module):
    """A regressor of which only the arm's part learns.

    keep_statistics: batch normalisation stays in eval mode. So it does in layers that do not learn.
    """

    def __init__(self, regressor: Regressor, arm: Arm, *, keep_statistics: bool) -> None:
        super().__init__()
        self.regressor = regressor
        parts = _learning(regressor, arm)
        self.requires_grad_(requires_grad=False)
        for part in parts:
            part.requires_grad_(requires_grad=True)
        moving = [] if keep_statistics else [one for part in parts for one in part.modules()]
        self._still = [one for one in regressor.modules() if isinstance(one, _BatchNorm) and one not in moving]

    def forward(self, images: Tensor) -> Features:
        """images: the output of `normalise`."""
        found: Features = self.regressor(images)
        return found

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - PyTorch's signature
        super().train(mode)
        for layer in getattr(self, "_still", ()):
            layer.eval()
        return self


def _learning(regressor: Regressor, arm: Arm) -> list[nn.Module]:
    if arm == "all":
        return [regressor]
    if arm == "head":
        return []
    if not regressor.last_layers:
        raise RefinementError("this network does not say which of its layers are the last ones: choose --arm all")
    return [regressor.get_submodule(name) for name in regressor.last_layers]


def copied(regressor: nn.Module) -> Weights:
    """A copy of the weights and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in regressor.state_dict().items()}


def mixed(parent: Mapping[str, Tensor], child: Mapping[str, Tensor], share: float) -> Weights:
    """The weights that lie `share` of the way from the parent's to the child's; 0 and 1 are exactly theirs.

    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022. Whole numbers are the child's.
    """
    if share == 0:
        return dict(parent)
    if share == 1:
        return dict(child)
    return {
        name: torch.lerp(parent[name], value, share) if value.is_floating_point() else value
        for name, value in child.items()
    }
