"""Splits are decided once: by group, the same on every machine, and never with nearly the same image on two sides."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.near_duplicates import prints
from models.contract.snapshot import Lane
from models.contract.splits import Place, Splitter, Subject, may_meet, split_of

HOUR_S = 3600.0


def noise(n: int, seed: int = 0) -> NDArray[np.float32]:
    """Prints of n images that have nothing in common."""
    return prints(np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3)).astype(np.uint8))


def from_camera(n: int, lane: Lane, hours: int = 1) -> list[Subject]:
    return [Subject(f"{lane}{i}", lane, "gate", HOUR_S * (i % hours)) for i in range(n)]


@pytest.mark.parametrize(
    ("lane", "shares"),
    [
        ("predicted_loss", {"train": 0.9, "watch": 0.1}),
        ("ood_score", {"train": 0.9, "watch": 0.1}),
        ("audit", {"calibrate": 0.5, "judge": 0.5}),
    ],
)
def test_each_lane_is_split_in_its_shares(lane: Lane, shares: dict[str, float]) -> None:
    found = Counter[str](split_of("pose", lane, f"camera {hour}") for hour in range(4000))
    assert found.keys() == shares.keys()
    for split, share in shares.items():
        assert found[split] / 4000 == pytest.approx(share, abs=0.03)  # four standard errors


def test_the_hash_is_keyed_by_the_model() -> None:
    groups = [f"camera {hour}" for hour in range(200)]
    assert [split_of("pose", "audit", one) for one in groups] != [split_of("gaze", "audit", one) for one in groups]


def test_a_camera_keeps_one_split_for_an_hour() -> None:
    places = Splitter("pose").places(from_camera(60, "audit", hours=20), noise(60))
    by_group: dict[str, set[str]] = {}
    for place in places:
        by_group.setdefault(place.group, set()).add(place.split)
    assert len(by_group) == 20
    assert all(len(splits) == 1 for splits in by_group.values())
    assert {split for splits in by_group.values() for split in splits} == {"calibrate", "judge"}


def test_without_a_source_images_that_are_nearly_the_same_are_one_group() -> None:
    looks = noise(40)
    twice = np.concatenate((looks, looks[::-1]))
    places = Splitter("pose").places([Subject(str(i), "predicted_loss", None, 0.0) for i in range(80)], twice)
    assert places[40:] == places[:40][::-1]
    assert len({place.group for place in places}) == 40


@pytest.mark.parametrize("source", [None, "gate"])
def test_nearly_the_same_image_never_trains_and_judges(source: str | None) -> None:
    looks = noise(200)
    flagged = [Subject(f"f{i}", "predicted_loss", source, HOUR_S * i) for i in range(200)]
    audited = [Subject(f"a{i}", "audit", source, HOUR_S * i) for i in range(200)]
    pairs = enumerate(zip(flagged, audited, strict=True))
    mixed = [one for number, pair in pairs for one in (pair if number % 2 else pair[::-1])]
    places = Splitter("pose").places(mixed, np.repeat(looks, 2, axis=0))
    placed = list(zip(places[::2], places[1::2], strict=True))
    assert all(may_meet(one.split, other.split) or "unused" in {one.split, other.split} for one, other in placed)
    assert all(one.split != "unused" for one, _ in placed)  # the first of two images is always of use
    assert {other.split for _, other in placed} >= {"unused"}


def test_places_do_not_depend_on_how_the_stream_is_cut_nor_on_what_comes_later() -> None:
    lanes: tuple[Lane, ...] = ("predicted_loss", "audit")
    subjects = [Subject(str(i), lanes[i % 2], (None, "gate")[i % 3 > 0], HOUR_S * (i % 7)) for i in range(90)]
    looks = np.concatenate((noise(60), noise(30)))  # the last 30 images were seen before
    whole = Splitter("pose").places(subjects, looks)
    paged, splitter = list[Place](), Splitter("pose")
    for start in range(0, 90, 25):
        paged += splitter.places(subjects[start : start + 25], looks[start : start + 25])
    assert paged == whole


def test_a_remembered_sample_keeps_its_place_and_binds_those_that_come_later() -> None:
    looks = noise(1)
    splitter = Splitter("pose")
    splitter.remember([Subject("old", "predicted_loss", None, 0.0)], [Place("long ago", "train")], looks)
    (place,) = splitter.places([Subject("new", "audit", None, 0.0)], looks)
    assert place == Place("long ago", "unused")
