import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.manifest import Preprocessing
from models.contract.preprocess import letterbox, place

SPEC = Preprocessing(height=64, width=48, channels=3, fill=7)
SIDE = st.integers(1, 300)


@given(SIDE, SIDE)
def test_points_find_their_way_back(height: int, width: int) -> None:
    canvas, placement = letterbox(np.zeros((height, width, 3), np.uint8), SPEC)
    points = np.array([[0.0, 0.0], [width, height], [width / 3, height / 7]])
    on_canvas = placement.to_canvas(points)
    assert canvas.shape == SPEC.canvas_shape
    assert np.allclose(placement.to_image(on_canvas), points)
    assert on_canvas.min() >= 0
    assert (on_canvas <= [SPEC.width + 1e-9, SPEC.height + 1e-9]).all()


def test_a_bright_block_lands_where_its_corners_are_said_to_land() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    image[32:64, 64:128] = 255
    canvas, placement = letterbox(image, SPEC)
    (left, top), (right, bottom) = placement.to_canvas(np.array([[64, 32], [128, 64]]))
    inside = canvas[round(top) + 1 : round(bottom) - 1, round(left) + 1 : round(right) - 1]
    assert inside.min() == 255
    assert canvas[..., 0].sum() == pytest.approx(255 * (right - left) * (bottom - top) + 7 * 16 * 48, rel=0.05)


def test_the_borders_are_filled_evenly() -> None:
    canvas, _ = letterbox(np.full((48, 48, 3), 200, np.uint8), SPEC)
    assert (canvas[:8] == 7).all()
    assert (canvas[-8:] == 7).all()
    assert (canvas[8:-8] == 200).all()


def test_a_canvas_is_taken_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, SPEC.canvas_shape, np.uint8)
    canvas, placement = letterbox(image, SPEC)
    assert (canvas == image).all()
    assert placement.scale == (1, 1)
    assert placement.offset == (0, 0)


def test_a_grey_image_keeps_its_channel_axis() -> None:
    grey = Preprocessing(height=8, width=8, channels=1)
    assert letterbox(np.zeros((30, 20, 1), np.uint8), grey)[0].shape == (8, 8, 1)


@given(SIDE, SIDE)
def test_the_size_alone_tells_where_an_image_will_lie(height: int, width: int) -> None:
    assert place(width, height, SPEC) == letterbox(np.zeros((height, width, 3), np.uint8), SPEC)[1]


def test_an_image_without_pixels_has_no_place() -> None:
    with pytest.raises(ValueError, match="not 0x5"):
        place(0, 5, SPEC)


def test_another_channel_count_is_refused() -> None:
    with pytest.raises(ValueError, match="1 channels, the model takes 3"):
        letterbox(np.zeros((8, 8, 1), np.uint8), SPEC)
