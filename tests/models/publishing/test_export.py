from copy import deepcopy

import numpy as np
import onnx
import pytest
import torch

from models.calibration.loss_map import fit_loss_map
from models.calibration.ood import fit_gaussian
from models.networks.forecast_graph import ForecastGraph, GraphOutputs
from models.networks.loss_head import Architecture, LossHeadConfig, build_loss_head
from models.networks.regressors import KeypointNet, KeypointNetConfig
from models.publishing.export import PARITY_BATCHES, ExportError, check_parity, export_onnx, run_onnx, state_dict

CANVAS = (64, 64, 1)


def make_graph(architecture: Architecture = "convolutional") -> ForecastGraph:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = KeypointNet(KeypointNetConfig())
    head = build_loss_head(LossHeadConfig(net.map_channels, architecture))
    score_map = fit_loss_map(rng.normal(size=200), rng.exponential(size=200))
    return ForecastGraph(net, head, score_map, fit_gaussian(rng.normal(size=(200, net.embedding_size))))


@pytest.fixture(scope="module")
def graph() -> ForecastGraph:
    return make_graph()


@pytest.fixture(scope="module")
def exported(graph: ForecastGraph) -> bytes:
    return export_onnx(graph, CANVAS)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [*PARITY_BATCHES, 3])
def test_onnx_runtime_gives_the_numbers_of_pytorch(graph: ForecastGraph, exported: bytes, batch: int) -> None:
    images = np.random.default_rng(batch).integers(0, 256, (batch, *CANVAS), np.uint8)
    with torch.no_grad():
        expected = graph(torch.from_numpy(images))
    outputs = run_onnx(exported, images)
    assert list(outputs) == graph.outputs == list(GraphOutputs._fields[:5])
    for ours, theirs in zip(expected[:5], outputs.values(), strict=True):
        assert theirs.dtype == np.float32
        np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_pooled_head_exports_too() -> None:
    assert export_onnx(make_graph("pooled"), CANVAS)


@pytest.mark.slow
def test_the_file_stands_alone_takes_uint8_and_any_batch(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sides = image.type.tensor_type.shape.dim
    assert sides[0].dim_param
    assert [side.dim_value for side in sides[1:]] == list(CANVAS)
    assert not any(tensor.external_data for tensor in model.graph.initializer)


@pytest.mark.slow
def test_equal_weights_give_equal_bytes_that_name_no_file(graph: ForecastGraph, exported: bytes) -> None:
    assert export_onnx(graph, CANVAS) == exported
    assert b".py" not in exported


@pytest.mark.slow
def test_an_onnx_file_of_other_weights_is_refused(exported: bytes) -> None:
    other = make_graph()
    with torch.no_grad():
        other.head.get_parameter("out.bias").add_(0.5)
    with pytest.raises(ExportError, match="score at batch 1"):
        check_parity(other, exported, CANVAS)


@pytest.mark.slow
def test_weights_come_back_from_the_onnx_bit_by_bit(graph: ForecastGraph, exported: bytes) -> None:
    for part in ("regressor", "head"):
        trained = graph.get_submodule(part)
        fresh = deepcopy(trained)
        for value in fresh.state_dict().values():
            value.fill_(7)
        fresh.load_state_dict(state_dict(exported, part))
        for name, value in trained.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                assert torch.equal(fresh.state_dict()[name], value), name
