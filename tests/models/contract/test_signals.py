from typing import get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.signals import IMAGE_SIGNALS, SIGNALS, Signal, image_signals, jitter

COLUMN: dict[str, int] = {name: number for number, name in enumerate(IMAGE_SIGNALS)}
WIDE = np.array([[200, 100]])


def scene(side: int = 192, channels: int = 3) -> NDArray[np.uint8]:
    """Something with structure at every scale: [1, side, side, channels]."""
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.normal(0, 25, (n, n)), (side, side), interpolation=cv2.INTER_CUBIC) for n in (6, 24, side)]
    grey = np.clip(128 + np.sum(layers, axis=0), 0, 255).astype(np.uint8)
    return np.repeat(grey[None, :, :, None], channels, axis=3)


def signal(name: str, canvas: NDArray[np.uint8], sizes: NDArray[np.integer] = WIDE) -> float:
    return float(image_signals(canvas, sizes)[0, COLUMN[name]])


def test_there_are_seven_and_the_last_five_are_of_the_image() -> None:
    assert get_args(Signal) == SIGNALS
    assert image_signals(scene(), WIDE).shape == (1, len(IMAGE_SIGNALS))


@pytest.mark.parametrize(("side", "channels"), [(192, 3), (64, 1), (33, 3)])
def test_luminance_and_contrast_are_about_those_of_all_pixels(side: int, channels: int) -> None:
    canvas = scene(side, channels)
    assert signal("luminance", canvas) == pytest.approx(canvas.mean(), abs=3)
    assert signal("contrast", canvas) == pytest.approx(canvas.std(), rel=0.1)


@pytest.mark.parametrize("side", [192, 128, 64])
def test_blur_lowers_the_sharpness_and_nothing_else_by_much(side: int) -> None:
    sharp = scene(side)
    blurred = cv2.GaussianBlur(sharp[0], (0, 0), 2)[None].astype(np.uint8)
    before, after = image_signals(sharp, WIDE)[0], image_signals(blurred, WIDE)[0]
    assert after[COLUMN["sharpness"]] < before[COLUMN["sharpness"]] - 3
    assert after[COLUMN["luminance"]] == pytest.approx(before[COLUMN["luminance"]], abs=3)


def test_the_sharpness_is_that_of_the_five_point_laplacian() -> None:
    rows, columns = np.mgrid[:64, :64]
    checks = ((rows + columns) % 2 * 10).astype(np.uint8)[None, ..., None]  # the Laplacian is 40 everywhere
    assert signal("sharpness", checks) == pytest.approx(np.log(1 + 40**2))


def test_the_borders_of_the_letterbox_do_not_count_as_sharp() -> None:
    canvas = np.full((1, 128, 128, 3), 114, np.uint8)
    canvas[:, 32:96] = 200
    assert signal("sharpness", canvas) == 0


def test_aspect_and_size_are_of_the_image_as_posted() -> None:
    assert signal("aspect", scene()) == pytest.approx(np.log(2))
    assert signal("size", scene()) == pytest.approx(np.log(200 * 100) / 2)


@pytest.mark.parametrize("level", [0, 7, 255])
@pytest.mark.parametrize("shape", [(192, 192, 3), (64, 64, 1), (8, 8, 1), (2, 2, 1), (1, 1, 3)])
def test_a_constant_image_has_neither_contrast_nor_sharpness(shape: tuple[int, int, int], level: int) -> None:
    found = image_signals(np.full((2, *shape), level, np.uint8), np.array([[1, 1], [1, 1]]))
    assert found.tolist() == [[level, 0, 0, 0, 0]] * 2


def test_an_image_gives_the_same_alone_and_among_others_and_as_a_view() -> None:
    rng = np.random.default_rng(0)
    canvases, sizes = rng.integers(0, 256, (9, 128, 128, 3), np.uint8), rng.integers(1, 900, (9, 2))
    together = image_signals(canvases, sizes)
    alone = [image_signals(canvases[row : row + 1], sizes[row : row + 1])[0] for row in range(9)]
    assert np.array_equal(together, alone)
    assert np.array_equal(together[::-2], image_signals(canvases[::-2], sizes[::-2]))


def test_no_images_have_no_signals() -> None:
    assert image_signals(np.empty((0, 64, 64, 1), np.uint8), np.empty((0, 2), np.int64)).shape == (0, 5)


@pytest.mark.parametrize(
    ("canvases", "sizes", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.uint8), np.ones((1, 2), np.int64), r"need sizes \[2, 2\]"),
        (np.zeros((8, 8, 1), np.uint8), np.ones((8, 2), np.int64), "need sizes"),
        (np.zeros((1, 8, 8, 1), np.uint8), np.zeros((1, 2), np.int64), "at least one pixel"),
    ],
)
def test_what_does_not_fit_is_refused(canvases: NDArray[np.uint8], sizes: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_signals(canvases, sizes)


def test_jitter_tells_equal_values_apart_and_moves_none_by_its_width() -> None:
    values = np.array([3.0, 3.0, 3.0, -1.0])
    noisy = jitter(values, 1e-3, np.random.default_rng(0))
    assert len(set(noisy.tolist())) == 4
    assert ((noisy >= values) & (noisy < values + 1e-3)).all()
    assert jitter(values, 0.0, np.random.default_rng(0)).tolist() == values.tolist()
