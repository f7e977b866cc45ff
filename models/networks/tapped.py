"""`TappedRegressor`: a network that somebody else trained, read at the layers that its owner names.

canvas -> the frozen network -> its output is the prediction, the outputs of the named layers are the maps, and the
means of the maps are the embedding. Names, shapes and sizes are checked on an empty canvas when it is built.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.contract import manifest
from models.networks.regressors import MIDDLE, SPREAD, Features, Regressor

MAP_AXES, TOKEN_AXES, VECTOR_AXES = 4, 3, 2  # [b, c, h, w], [b, n, c], [b, c]
MAX_CELLS = 16


class TappedRegressor(Regressor):
    """See the module; the network is never trained and never leaves eval mode.

    base: takes float [b, channels, height, width] and gives [b, *prediction_shape] in canvas units.
    layers: names of its parts, as `base.named_modules()` has them, whose outputs are maps [b, c, h, w], tokens
    [b, n, c] or vectors [b, c]; maps of more than MAX_CELLS a side are averaged down to it.
    mean, std: in grey levels from 0 to 255, one value or one for each channel; the network gets (pixel - mean) / std.
    Raises ValueError for a layer that does not exist, is not used or gives no map, and for another prediction shape.
    """

    summary = "that was trained elsewhere"

    def __init__(  # noqa: PLR0913, PLR0917 - a network does not tell these by itself
        self,
        base: nn.Module,
        layers: Sequence[str],
        task: manifest.Task,
        canvas: manifest.Preprocessing,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (255.0,),
    ) -> None:
        super().__init__()
        self.base = base.eval().requires_grad_(requires_grad=False)
        self._layers = _checked(base, layers)
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in {1, canvas.channels}:
                raise ValueError(
                    f"{name} has {len(values)} values: give one, or one for each of {canvas.channels} channels"
                )
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        with torch.no_grad():
            prediction, maps = self._run(torch.zeros(2, canvas.channels, canvas.height, canvas.width))
        if tuple(prediction.shape) != (2, *task.prediction_shape):
            raise ValueError(
                f"the network gives {list(prediction.shape)} for two canvases, not {[2, *task.prediction_shape]}"
            )
        self._layers.sort(key=lambda name: -maps[name].shape[2:].numel())
        self.map_channels = tuple(maps[name].shape[1] for name in self._layers)
        self.embedding_size = sum(self.map_channels)

    def forward(self, images: Tensor) -> Features:
        """images: the output of `normalise`."""
        prediction, found = self._run(images)
        maps = tuple(found[name] for name in self._layers)  # finest first
        return Features(prediction, maps, torch.cat([one.mean(dim=(2, 3)) for one in maps], dim=1))

    def training_loss(self, features: Features, targets: Tensor) -> Tensor:
        """Raises ValueError: the network is trained already."""
        del features, targets
        raise ValueError("a tapped network is not trained here: only its loss head is")

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - PyTorch's signature
        """Always stays in eval mode."""
        del mode
        return super().train(mode=False)

    def alone(self, images: Tensor) -> Tensor:
        """The network's own prediction, without reading its layers. images: the output of `normalise`."""
        # Contiguous memory: another order changes the last bits.
        pixels = (images * SPREAD + MIDDLE).clone(memory_format=torch.contiguous_format)
        prediction: Tensor = self.base((pixels - self.get_buffer("mean")) / self.get_buffer("std"))
        if not isinstance(prediction, Tensor):
            raise ValueError(  # noqa: TRY004 - the user's network is wrong, not an argument of ours
                f"the network returns {type(prediction).__name__}: wrap it, to return one tensor"
            )
        return prediction

    def _run(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for name in self._layers:
                hook = self.base.get_submodule(name).register_forward_hook(_keep(found, name))
                hooks.callback(hook.remove)
            prediction = self.alone(images)
        unused = [name for name in self._layers if name not in found]
        if unused:
            raise ValueError(f"the network does not use its layer {unused[0]!r}")
        return prediction, found


def _keep(found: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, object], None]:
    """A forward hook that puts a layer's output into `found`, as a map."""

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or not VECTOR_AXES <= output.ndim <= MAP_AXES:
            shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer {name!r} gives {shape}: [b, c, h, w], [b, n, c] or [b, c] is needed")
        found[name] = _as_map(output)

    return keep


def _as_map(output: Tensor) -> Tensor:
    """[b, c, h, w] of a layer's output."""
    if output.ndim == VECTOR_AXES:
        return output[:, :, None, None]
    if output.ndim == TOKEN_AXES:
        return output.transpose(1, 2).unsqueeze(3)
    window = [max(1, -(-side // MAX_CELLS)) for side in output.shape[2:]]
    return functional.avg_pool2d(output, window, ceil_mode=True) if max(window) > 1 else output


def _checked(base: nn.Module, layers: Sequence[str]) -> list[str]:
    known = [name for name, _ in base.named_modules() if name]
    if not layers or isinstance(layers, str):  # a string is a sequence of one-letter names
        raise ValueError("name at least one layer to read, in a list")
    for name in layers:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"the network has no layer {name!r}: {hint}")
    return list(dict.fromkeys(layers))
