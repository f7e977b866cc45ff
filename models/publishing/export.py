"""Turns a finished forecast into the ONNX bytes of a bundle, and proves that both give the same numbers."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract.runtime import open_session
from models.networks.forecast_graph import ForecastGraph

PARITY_BATCHES = (1, 2, 7, 32)
PARITY_TOLERANCE = 1e-4  # relative to the largest value of an output; float32 sums in another order reach 1e-5


class ExportError(RuntimeError):
    """The exported graph is not the trained network; the message names the output and the difference."""


def export_onnx(graph: ForecastGraph, canvas_shape: Sequence[int]) -> bytes:
    """ONNX of `graph` for uint8 [batch, *canvas_shape]; the batch is free, outputs are `graph.outputs`.

    Weights keep their names and values: batch normalisation, say, is not folded into convolutions here, as ONNX Runtime
    does so when it loads the file (see `_state_types`). Equal weights give equal bytes: what the exporter notes about
    the machine it ran on is removed.
    Raises ExportError when ONNX Runtime and PyTorch disagree at any of `PARITY_BATCHES`.
    """
    example = torch.zeros(2, *canvas_shape, dtype=torch.uint8)
    with _quiet_exporter():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            external_data=False,
            input_names=["image"],
            output_names=graph.outputs,
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("PyTorch returned no ONNX program")
    data = _clean(_state_types(program.model_proto))
    check_parity(graph, data, canvas_shape)
    return data


def check_parity(graph: ForecastGraph, data: bytes, canvas_shape: Sequence[int]) -> None:
    """Raises ExportError unless ONNX Runtime gives PyTorch's numbers, on noise canvases, at every batch size."""
    rng = np.random.default_rng(0)
    for batch in PARITY_BATCHES:
        images = rng.integers(0, 256, (batch, *canvas_shape), np.uint8)
        with torch.no_grad():
            expected = [one for one in graph(torch.from_numpy(images)) if one is not None]
        for (name, found), ours in zip(run_onnx(data, images).items(), expected, strict=True):
            _compare(f"{name} at batch {batch}", ours.numpy(), found)


def run_onnx(data: bytes, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The outputs by name, those of `GraphOutputs`, of the bytes that ship. images: uint8 [n, h, w, c], one batch."""
    session = open_session(data)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def state_dict(data: bytes, part: str) -> dict[str, Tensor]:
    """The weights of a `part` of the graph that `data` was exported from, "regressor" or "head": for `load_state_dict`.

    All that a forward pass reads is there, bit by bit; batch normalisation starts to count its batches anew.
    """
    prefix = f"{part}."
    return {
        one.name.removeprefix(prefix): torch.from_numpy(onnx.numpy_helper.to_array(one).copy())
        for one in onnx.load_from_string(data).graph.initializer
        if one.name.startswith(prefix)
    }


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Holds back what the exporter says of itself: its own deprecated calls, and torchvision's absence."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _compare(what: str, expected: NDArray[np.float32], found: NDArray[np.float32]) -> None:
    if found.dtype != np.float32 or found.shape != expected.shape:
        raise ExportError(f"{what}: {found.dtype} {found.shape} in ONNX, {expected.dtype} {expected.shape} in PyTorch")
    difference = float(np.abs(found - expected).max())
    if not difference <= PARITY_TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ExportError(f"{what}: ONNX Runtime and PyTorch differ by {difference:g}")


def _state_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Casts to the type of some result made casts to that type, by name.

    The exporter gives a convolution without a bias one of zeros, cast like its input. So it depends on the image, and
    ONNX Runtime folds neither it nor the batch normalisation behind:
    18 % of a keypoint network's time, 46 % of that of digits.
    """
    typed = onnx.shape_inference.infer_shapes(model).graph
    types = {one.name: one.data_type for one in typed.initializer}
    types |= {one.name: one.type.tensor_type.elem_type for one in (*typed.value_info, *typed.input, *typed.output)}
    for node in model.graph.node:
        if node.op_type == "CastLike" and node.input[1] in types:
            node.op_type = "Cast"
            node.attribute.append(onnx.helper.make_attribute("to", types[node.input.pop()]))
    return model


def _clean(model: onnx.ModelProto) -> bytes:
    """Serialised without the stack traces and file names that the exporter attaches to every node."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
