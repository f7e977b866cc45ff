from dataclasses import replace

import numpy as np
import pytest

from models.tasks.canvas import CanvasRanges, draw_corners, place, render

RANGES = CanvasRanges()
CLEAN = CanvasRanges(contrast=(150, 150), noise=(0, 0), blur_px=(0.3, 0.3), clutter=(0, 0), occlusion=(0, 0))


def test_a_full_square_of_ink_covers_its_corners_and_nothing_else() -> None:
    corners = np.array([[10, 20], [40, 20], [40, 50], [10, 50]], np.float32)
    ink = place(np.ones((32, 32), np.float32), corners, 64)
    assert ink[21:49, 11:39].min() == pytest.approx(1, abs=1e-5)
    assert ink.sum() == pytest.approx(ink[19:51, 9:41].sum())  # an edge may bleed into the next pixel, no further
    assert ink.sum() == pytest.approx(900, rel=0.05)


def test_each_quarter_of_the_glyph_lands_at_its_own_corner() -> None:
    glyph = np.zeros((8, 8), np.float32)
    for corner, (rows, columns) in enumerate([(0, 0), (0, 4), (4, 4), (4, 0)]):
        glyph[:] = 0
        glyph[rows : rows + 4, columns : columns + 4] = 1
        corners = draw_corners(np.random.default_rng(corner), RANGES)
        ink = place(glyph, corners, 64)
        y, x = (np.indices(ink.shape) + 0.5).reshape(2, -1) @ ink.ravel() / ink.sum()
        assert np.argmin(np.linalg.norm(corners - (x, y), axis=1)) == corner


def test_corners_turn_no_further_than_the_recipe_and_keep_their_order() -> None:
    ranges = replace(RANGES, corner_jitter=0.0)
    for seed in range(200):
        corners = draw_corners(np.random.default_rng(seed), ranges)
        top = corners[1] - corners[0]
        left = corners[3] - corners[0]
        assert abs(np.degrees(np.arctan2(top[1], top[0]))) <= 45.001
        assert top[0] * left[1] - top[1] * left[0] > 0  # clockwise on the screen
        assert 24 - 1e-3 <= np.linalg.norm(top) <= 40 + 1e-3


def test_a_clean_canvas_shows_its_ink_where_the_corners_say() -> None:
    image, corners = render(np.ones((8, 8)), np.random.default_rng(3), CLEAN)
    x, y = corners.mean(axis=0).astype(int)
    outside = np.delete(image[..., 0], slice(int(corners[:, 1].min()) - 3, int(corners[:, 1].max()) + 4), axis=0)
    assert image[y, x, 0] > outside.max() + 80


def test_a_harder_recipe_hides_the_glyph() -> None:
    def visibility(ranges: CanvasRanges) -> float:
        blank, glyph = np.zeros((8, 8)), np.ones((8, 8))
        pairs = [[render(ink, np.random.default_rng(seed), ranges)[0] for ink in (blank, glyph)] for seed in range(20)]
        return float(np.mean([np.abs(b.astype(float) - g).mean() for b, g in pairs]))

    assert visibility(replace(RANGES, contrast=(35, 35))) < 0.5 * visibility(replace(RANGES, contrast=(150, 150)))
