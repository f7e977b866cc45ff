from typing import get_args

import pytest
import torch
from torch import Tensor

from models.networks.loss_head import Architecture, LossHeadConfig, build_loss_head

CHANNELS = (3, 5, 7)
ARCHITECTURES = get_args(Architecture)


def feature_maps(batch: int, finest: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = (finest, finest // 2, finest // 4)
    return [torch.rand(batch, c, side, side, generator=generator) for c, side in zip(CHANNELS, sides, strict=True)]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("batch", [1, 4])
def test_a_head_gives_one_score_for_each_row(architecture: Architecture, batch: int) -> None:
    head = build_loss_head(LossHeadConfig(CHANNELS, architecture)).eval()
    assert head(feature_maps(batch)).shape == (batch,)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_feature_map_and_every_weight_matters(architecture: Architecture) -> None:
    head = build_loss_head(LossHeadConfig(CHANNELS, architecture))
    maps = [one.requires_grad_() for one in feature_maps(4)]
    gradients = torch.autograd.grad(head(maps).square().sum(), [*maps, *head.parameters()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_row_has_the_same_score_alone_and_in_a_batch(architecture: Architecture) -> None:
    head = build_loss_head(LossHeadConfig(CHANNELS, architecture)).eval()
    maps = feature_maps(4)
    torch.testing.assert_close(head([one[2:3] for one in maps])[0], head(maps)[2])


def test_only_the_convolutional_head_sees_where_a_feature_lies() -> None:
    maps = feature_maps(1)
    scrambled = [one.flatten(2)[:, :, torch.randperm(one[0, 0].numel())].view_as(one) for one in maps]
    with torch.no_grad():
        pooled = build_loss_head(LossHeadConfig(CHANNELS, "pooled")).eval()
        torch.testing.assert_close(pooled(maps), pooled(scrambled))
        convolutional = build_loss_head(LossHeadConfig(CHANNELS, "convolutional")).eval()
        assert (convolutional(maps) - convolutional(scrambled)).abs().item() > 1e-5


def test_maps_may_shrink_by_any_factor() -> None:
    head = build_loss_head(LossHeadConfig(CHANNELS)).eval()
    maps = [torch.rand(2, c, *size) for c, size in zip(CHANNELS, [(30, 20), (9, 11), (9, 2)], strict=True)]
    assert head(maps).shape == (2,)


def test_a_head_without_maps_or_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="feature map"):
        build_loss_head(LossHeadConfig(()))
    with pytest.raises(ValueError, match="convolutional, pooled"):
        build_loss_head(LossHeadConfig(CHANNELS, "transformer"))  # type: ignore[arg-type]  # that is the point
