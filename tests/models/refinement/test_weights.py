from pathlib import Path

import pytest
import torch
from torch import nn

from models.contract.bundle import read_manifest, read_onnx
from models.networks.regressors import KeypointNet, KeypointNetConfig
from models.publishing.export import state_dict
from models.refinement.config import RefinementError
from models.refinement.learner import RecipeLearner
from models.refinement.weights import TunedPart, copied, mixed
from models.tasks.digits import Digits


def test_the_weights_of_a_version_come_from_its_onnx(parent: Path, few_digits: Digits) -> None:
    regressor = RecipeLearner(few_digits).parent(parent)
    onnx = state_dict(read_onnx(parent, read_manifest(parent)), "regressor")
    assert all(torch.equal(regressor.state_dict()[name], value) for name, value in onnx.items())
    assert not regressor.training


def test_a_network_that_is_not_the_recipes_is_refused(
    parent: Path, few_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = KeypointNetConfig(widths=(8, 16, 16))
    monkeypatch.setattr("models.training.recipes.KeypointNetConfig", lambda *_: other)
    with pytest.raises(RefinementError, match="another network than the one of 'digits' here"):
        RecipeLearner(few_digits).parent(parent)


def test_a_version_of_another_task_is_refused(parent: Path) -> None:
    class Pentagons(Digits):
        task = Digits.task.model_copy(update={"names": ("a", "b", "c", "d")})

    with pytest.raises(RefinementError, match="made for another task"):
        RecipeLearner(Pentagons()).parent(parent)


@pytest.mark.parametrize(
    ("arm", "learning"),
    [("all", {"fine", "middle", "coarse", "votes"}), ("decoder", {"coarse", "votes"}), ("head", set())],
)
def test_only_the_part_of_the_arm_learns(arm: str, learning: set[str]) -> None:
    tunable = TunedPart(KeypointNet(KeypointNetConfig()), arm, keep_statistics=True)  # type: ignore[arg-type]  # from the list
    names = {name.split(".")[1] for name, value in tunable.named_parameters() if value.requires_grad}
    assert names == learning


@pytest.mark.parametrize("keep", [True, False])
def test_batch_normalisation_keeps_its_statistics_if_asked_to(keep: bool) -> None:  # noqa: FBT001 - a parameter of the test
    net = KeypointNet(KeypointNetConfig())
    tunable = TunedPart(net, "decoder", keep_statistics=keep)
    tunable.train()
    before = copied(net)
    tunable(torch.randn(4, 1, 64, 64))
    changed = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == (set() if keep else {"coarse"})


def test_a_network_without_last_layers_has_no_decoder_arm() -> None:
    net = KeypointNet(KeypointNetConfig())
    net.last_layers = ()
    with pytest.raises(RefinementError, match="--arm all"):
        TunedPart(net, "decoder", keep_statistics=True)


def test_a_mixture_lies_between_and_its_ends_are_exact() -> None:
    layer = nn.BatchNorm1d(3)
    one, other = copied(layer), {name: value + 1 for name, value in copied(layer).items()}
    assert all(torch.equal(value, one[name]) for name, value in mixed(one, other, 0).items())
    assert all(torch.equal(value, other[name]) for name, value in mixed(one, other, 1).items())
    half = mixed(one, other, 0.5)
    assert torch.allclose(half["weight"], one["weight"] + 0.5)
    assert half["num_batches_tracked"] == other["num_batches_tracked"]
