import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from models.analysis.gamma import expected_pair_target, similar_loss_probability
from models.analysis.similar_pairs import (
    TABLE_1,
    TABLE_1_DECIMALS,
    TABLE_2,
    TABLE_2_DECIMALS,
    analyse_losses,
    compare_pairs,
    print_losses,
    print_paper,
    read_losses,
    solve_law,
)


def printed(figures: NDArray[np.float64], decimals: int) -> list[str]:
    return [f"{figure:.{decimals}f}" for figure in figures]


def test_table_1_comes_from_one_whole_shape_alone() -> None:
    (law,) = solve_law(TABLE_1)
    assert law.k == 4
    assert 0.066596 < law.theta_low < 0.066597
    assert 0.066645 < law.theta_high < 0.066646


@pytest.mark.parametrize("place", [0.001, 0.5, 0.999])
def test_every_scale_found_prints_every_digit_of_both_tables(place: float) -> None:
    (law,) = solve_law(TABLE_1)
    theta = law.theta_low + place * (law.theta_high - law.theta_low)
    first = similar_loss_probability(list(TABLE_1), law.k, theta)
    assert printed(first, TABLE_1_DECIMALS) == ["0.094", "0.185", "0.274", "0.358", "0.437", "0.527", "0.607"]
    second = expected_pair_target(-np.array(list(TABLE_2)), law.k, theta)
    assert printed(second, TABLE_2_DECIMALS) == ["0.50", "0.39", "0.30", "0.25", "0.21", "0.18"]


@pytest.mark.parametrize("outside", ["low", "high"])
def test_a_scale_just_outside_prints_another_table(outside: str) -> None:
    (law,) = solve_law(TABLE_1)
    theta = law.theta_low - 1e-7 if outside == "low" else law.theta_high + 1e-7
    found = np.round(similar_loss_probability(list(TABLE_1), law.k, theta), TABLE_1_DECIMALS)
    assert not np.array_equal(found, list(TABLE_1.values()))


def test_a_table_made_from_another_law_gives_that_law_back() -> None:
    deltas = [0.2, 0.5, 1.0, 2.0, 3.0]
    table = dict(zip(deltas, np.round(similar_loss_probability(deltas, 2, 0.7), 4).tolist(), strict=True))
    (law,) = solve_law(table, decimals=4)
    assert law.k == 2
    assert law.theta_low < 0.7 < law.theta_high


@pytest.mark.parametrize("table", [{}, {0.1: 0.0}, {0.1: 1.0}, {0.0: 0.5}])
def test_an_empty_or_impossible_table_is_refused(table: dict[float, float]) -> None:
    with pytest.raises(ValueError, match="rows of delta > 0"):
        solve_law(table)


@given(
    losses=st.lists(st.integers(0, 20).map(lambda eighths: eighths / 8), min_size=2, max_size=25),
    delta=st.integers(0, 24).map(lambda eighths: eighths / 8),
    margin=st.integers(1, 24).map(lambda eighths: eighths / 8),
)
def test_pairs_are_counted_as_one_by_one(losses: list[float], delta: float, margin: float) -> None:
    gaps = [abs(a - b) for a, b in itertools.combinations(losses, 2)]
    counts = compare_pairs(losses, delta, margin)
    assert counts.pairs == len(gaps)
    assert counts.similar == sum(gap <= delta for gap in gaps)
    assert counts.penalised == sum(0 < gap < margin for gap in gaps)
    assert counts.needless == sum(0 < gap < margin and gap <= delta for gap in gaps)


def test_a_margin_below_the_last_bit_of_the_losses_penalises_nothing() -> None:
    counts = compare_pairs([1e20, 1e20, 2e20], delta=1.0, margin=1.0)
    assert (counts.similar, counts.penalised, counts.needless) == (1, 0, 0)


@pytest.mark.parametrize(
    ("losses", "delta", "margin", "message"),
    [
        ([1.0], 1.0, 1.0, "at least two"),
        ([1.0, float("nan")], 1.0, 1.0, "finite"),
        ([1.0, 2.0], -1.0, 1.0, "delta"),
        ([1.0, 2.0], 1.0, 0.0, "margin"),
    ],
)
def test_pairs_that_cannot_be_counted_are_refused(
    losses: list[float], delta: float, margin: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare_pairs(losses, delta, margin)


def test_gamma_losses_have_as_many_alike_pairs_as_their_law() -> None:
    found = analyse_losses(np.random.default_rng(0).gamma(4, 0.0666, 3000), delta=0.1)
    assert found.counts.similar / found.counts.pairs == pytest.approx(0.437, abs=0.02)
    assert found.counts.needless <= found.counts.penalised


def test_the_default_distance_is_a_quarter_of_the_mean() -> None:
    losses = np.random.default_rng(0).gamma(4, 3.0, 500)
    assert analyse_losses(losses).delta == pytest.approx(losses.mean() / 4)


def test_losses_are_read_from_text_and_from_npy(tmp_path: Path) -> None:
    (tmp_path / "losses.txt").write_text("0.5\n\n1e-3\n 2 \n")
    np.save(tmp_path / "losses.npy", np.array([0.5, 1e-3, 2.0], np.float32))
    for name in ("losses.txt", "losses.npy"):
        np.testing.assert_allclose(read_losses(tmp_path / name), [0.5, 1e-3, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("losses.txt", b"0.5\none\n", "line 2: 'one' is not a number"),
        ("losses.txt", b"\xff\xfe\x00", "is not text"),
        ("losses.npy", b"0.5\n", "is not a .npy file"),
        ("losses.npy", b"", "is not a .npy file"),
    ],
)
def test_a_file_that_holds_no_losses_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_losses(tmp_path / name)


def test_the_reports_hold_the_figures() -> None:
    console = Console(file=io.StringIO(), width=120)
    print_paper(solve_law(TABLE_1)[0], console)
    print_losses(analyse_losses(np.random.default_rng(0).gamma(4, 0.0666, 500), delta=0.1), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for figure in ("k = 4", "0.607", "0.606811", "0.18", "500 losses", "KS distance", "124750"):
        assert figure in text


@pytest.mark.parametrize("delta", [0.05, None])
def test_the_page_shows_the_pairs_of_the_held_out_photographs(delta: float | None) -> None:
    root = Path(__file__).resolve().parents[3]
    found = analyse_losses(
        read_losses(root / "benchmarks/detection/results/held-out-losses.txt"), margin=1.0, delta=delta
    )
    law = float(similar_loss_probability(found.delta, found.fit.k, found.fit.theta))
    counts = (found.counts.similar, law * found.counts.pairs, found.counts.penalised, found.counts.needless)
    shares = " | ".join(f"{100 * count / found.counts.pairs:.1f} %" for count in counts)
    assert f"| {shares} |" in (root / "docs/analysis.md").read_text()
