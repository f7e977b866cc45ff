import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.tasks.canvas import CanvasRanges
from models.tasks.digits import SPLIT_SIZES, Digits
from models.tasks.protocol import SPLITS, Split

Canvas = tuple[NDArray[np.uint8], NDArray[np.float32]]


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def test_splits_share_no_source_image_and_leave_none_out(digits: Digits) -> None:
    sources = {split: set(digits.sources(split).tolist()) for split in SPLITS}
    assert {split: len(ids) for split, ids in sources.items()} == SPLIT_SIZES
    assert all(not one & other for one, other in combinations(sources.values(), 2))
    assert set.union(*sources.values()) == set(range(1797))


def test_every_split_holds_every_digit(digits: Digits) -> None:
    for split in SPLITS:
        assert set(digits.examples(split).stratum.tolist()) == set(range(10))


def test_examples_have_the_shapes_that_the_manifest_states(digits: Digits) -> None:
    examples = digits.examples("test", views=2)
    assert examples.images.shape == (594, *digits.preprocessing.canvas_shape)
    assert examples.images.dtype == np.uint8
    assert examples.targets.shape == (594, *digits.task.prediction_shape)
    assert examples.targets.dtype == np.float32
    assert examples.source[::2].tolist() == examples.source[1::2].tolist() == digits.sources("test").tolist()


def test_an_example_depends_on_split_source_seed_and_view_alone(digits: Digits) -> None:
    many, again = digits.examples("test", views=3, seed=4), Digits().examples("test", views=1, seed=4, first_view=2)
    np.testing.assert_array_equal(many.images[2::3], again.images)
    np.testing.assert_array_equal(many.targets[2::3], again.targets)


@pytest.mark.parametrize(("seed", "first_view"), [(1, 0), (0, 1)])
def test_another_seed_or_view_is_another_canvas(digits: Digits, seed: int, first_view: int) -> None:
    one, other = digits.examples("test"), digits.examples("test", seed=seed, first_view=first_view)
    assert not (one.images == other.images).all(axis=(1, 2, 3)).any()


def test_corners_lie_on_the_canvas(digits: Digits) -> None:
    targets = digits.examples("calibration").targets
    assert targets.min() >= 0
    assert targets.max() <= 64


def test_true_loss_is_the_mean_distance_of_the_four_corners(digits: Digits) -> None:
    targets = np.zeros((2, 4, 2), np.float32)
    preds = targets.copy()
    preds[1, 0] = (3, 4)
    preds[1, 1] = (0, 7)
    np.testing.assert_allclose(digits.true_loss(preds, targets), [0, 3])


def test_the_fingerprint_follows_the_recipe(digits: Digits) -> None:
    assert digits.fingerprint == Digits().fingerprint
    assert digits.fingerprint != Digits(CanvasRanges(max_rotation_deg=10)).fingerprint


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    "change",
    [
        lambda image, corners: (np.roll(image, 1, axis=1), corners),
        lambda image, corners: (np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8), corners),
        lambda image, corners: (image, corners + np.float32(0.5)),
    ],
    ids=["moved", "brighter", "targets moved"],
)
def test_the_fingerprint_follows_the_code_that_draws_each_split(
    digits: Digits, monkeypatch: pytest.MonkeyPatch, split: Split, change: Callable[..., Canvas]
) -> None:
    as_it_is = Digits._render

    def changed_code(task: Digits, asked: Split, **views: int) -> Iterator[Canvas]:
        for image, corners in as_it_is(task, asked, **views):
            yield change(image, corners) if asked == split else (image, corners)

    monkeypatch.setattr(Digits, "_render", changed_code)
    assert Digits().fingerprint != digits.fingerprint


def test_unknown_splits_and_empty_views_are_refused(digits: Digits) -> None:
    unknown: Split = "validation"  # type: ignore[assignment]  # that is the point
    with pytest.raises(ValueError, match="trunk, head, calibration, test"):
        digits.examples(unknown)
    with pytest.raises(ValueError, match="at least one view"):
        digits.examples("test", views=0)


def test_the_task_needs_no_torch() -> None:
    use = "import sys; from models.tasks.digits import Digits; Digits().examples('test')"
    code = f"{use}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
