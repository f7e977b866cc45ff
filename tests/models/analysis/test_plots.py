from pathlib import Path

import numpy as np
import pytest

from models.analysis.plots import draw_losses, draw_paper, save
from models.analysis.similar_pairs import TABLE_1, TABLE_2, analyse_losses, solve_law


def test_the_printed_points_lie_on_the_curves_of_the_law() -> None:
    alike, target, _ = draw_paper(solve_law(TABLE_1)[0]).axes
    for axes, table, half_a_digit in ((alike, TABLE_1, 0.0006), (target, TABLE_2, 0.0055)):
        (curve_x, curve_y), (point_x, point_y) = (np.asarray(line.get_data(), float) for line in axes.lines)
        assert point_x.tolist() == list(table)
        np.testing.assert_allclose(np.interp(point_x, curve_x, curve_y), point_y, atol=half_a_digit)


def test_the_share_of_alike_losses_is_drawn_beside_that_of_their_law() -> None:
    losses = np.random.default_rng(0).gamma(4, 2.0, 800)
    _, alike, gradient = draw_losses(losses, analyse_losses(losses)).axes
    law, found = (np.asarray(line.get_ydata(), float) for line in alike.lines[:2])
    np.testing.assert_allclose(law, found, atol=0.05)
    hinge, soft = (np.asarray(line.get_ydata(), float) for line in gradient.lines)
    assert set(hinge[np.isfinite(hinge)]) == {-1.0, 1.0}
    assert np.abs(soft).max() < 0.5


def test_the_ending_of_the_file_selects_its_format(tmp_path: Path) -> None:
    figure = draw_paper(solve_law(TABLE_1)[0])
    save(figure, tmp_path / "new" / "paper.svg")
    assert "<svg" in (tmp_path / "new" / "paper.svg").read_text()
    with pytest.raises(ValueError, match="xyz"):
        save(figure, tmp_path / "paper.xyz")
