import dataclasses

import torch

from models.training.augmentation import Augmentation, augment, mirror_order

NAMES = ("left_hand", "nose", "right_hand")
GEOMETRY = Augmentation(brightness=0, contrast=1, saturation=0, tint=1, cutouts=0)
STILL = dataclasses.replace(GEOMETRY, rotation_deg=0, scale=1, shift=0, mirror=0)


def dots(places: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """One image for each place, grey with a bright dot of 6 px around it; and the places as targets."""
    images = torch.full((len(places), 64, 64, 3), 114, dtype=torch.uint8)
    for image, (x, y) in zip(images, places, strict=True):
        image[y - 3 : y + 3, x - 3 : x + 3] = 255
    return images, torch.tensor(places, dtype=torch.float32)[:, None].expand(-1, 3, -1)


def centroids(images: torch.Tensor) -> torch.Tensor:
    weight = (images[..., 0] - 114).clamp(min=0)
    along = torch.arange(64) + 0.5
    total = weight.sum(dim=(1, 2))
    return torch.stack(((weight.sum(1) * along).sum(1) / total, (weight.sum(2) * along).sum(1) / total), dim=1)


def test_sides_are_swapped_by_name() -> None:
    assert mirror_order(NAMES) == [2, 1, 0]
    assert mirror_order(("left_eye", "mouth")) == [0, 1]


def test_targets_move_with_the_pixels() -> None:
    torch.manual_seed(0)
    images, targets = dots([(32, 32), (22, 40), (40, 25), (30, 20)] * 8)
    moved, places = augment(images, targets, [0, 1, 2], GEOMETRY)
    torch.testing.assert_close(places[:, 1], centroids(moved), atol=0.2, rtol=0)
    assert (places - targets).norm(dim=2).max() > 5


def test_a_mirror_swaps_left_and_right() -> None:
    images, _ = dots([(20, 32)])
    targets = torch.tensor([[[20.0, 32.0], [30.0, 10.0], [40.0, 50.0]]])
    moved, places = augment(images, targets, mirror_order(NAMES), dataclasses.replace(STILL, mirror=1))
    torch.testing.assert_close(places, torch.tensor([[[24.0, 50.0], [34.0, 10.0], [44.0, 32.0]]]))
    torch.testing.assert_close(centroids(moved), torch.tensor([[44.0, 32.0]]))


def test_without_ranges_nothing_changes() -> None:
    images, targets = dots([(20, 32), (40, 12)])
    moved, places = augment(images, targets, [0, 1, 2], STILL)
    torch.testing.assert_close(moved, images.to(torch.float32), atol=1e-2, rtol=0)
    torch.testing.assert_close(places, targets)


def test_missing_joints_stay_missing() -> None:
    images, targets = dots([(20, 32)])
    targets = targets.clone()
    targets[0, 1] = float("nan")
    _, places = augment(images, targets, [0, 1, 2], Augmentation())
    assert torch.isnan(places[0]).all(dim=1).tolist() == [False, True, False]


def test_the_seed_decides_and_pixels_stay_in_range() -> None:
    images = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = torch.full((8, 3, 2), 32.0)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment(images, targets, [0, 1, 2], Augmentation())[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].min() >= 0
    assert drawn[0].max() <= 255
