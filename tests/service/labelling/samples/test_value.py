import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.manifest import OrderStatistics
from service.labelling.samples.value import surprise

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def references(draw: st.DrawFn, values: st.SearchStrategy[float] = FINITE) -> OrderStatistics:
    kept = sorted(draw(st.lists(values, min_size=1, max_size=30)))
    size = len(kept) + draw(st.integers(0, 1000))
    ranks = sorted(draw(st.sets(st.integers(1, size), min_size=len(kept), max_size=len(kept))))
    return OrderStatistics(size=size, ranks=tuple(ranks), values=tuple(kept))


def whole(values: list[float]) -> OrderStatistics:
    return OrderStatistics(size=len(values), ranks=tuple(range(1, len(values) + 1)), values=tuple(sorted(values)))


@given(FINITE, references())
def test_surprise_is_finite_and_not_negative_for_any_score_and_reference(
    score: float, reference: OrderStatistics
) -> None:
    assert 0 <= surprise(score, reference) < math.inf


@given(st.lists(FINITE, min_size=2, max_size=20), references())
def test_surprise_never_decreases(scores: list[float], reference: OrderStatistics) -> None:
    surprises = [surprise(score, reference) for score in sorted(scores)]
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(surprises))


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=20, unique=True),
    references(st.integers(-1000, 1000).map(float)),
)
def test_surprise_increases_strictly_far_beyond_the_reference_on_both_sides(
    scores: list[int], reference: OrderStatistics
) -> None:
    surprises = [surprise(float(score), reference) for score in sorted(scores)]
    assert all(a < b for a, b in pairwise(surprises))


def test_inside_the_reference_it_is_the_empirical_probability() -> None:
    reference = whole([1.0, 2.0, 3.0])
    assert surprise(2.0, reference) == pytest.approx(-math.log(2 / 4))
    assert surprise(2.5, reference) == pytest.approx(-math.log(1.5 / 4))


def test_a_thinned_reference_agrees_with_the_whole_one_at_the_ranks_kept() -> None:
    values = sorted(np.random.default_rng(0).normal(size=999).tolist())
    ranks = (1, 100, 500, 900, 990, 999)
    thinned = OrderStatistics(size=999, ranks=ranks, values=tuple(values[rank - 1] for rank in ranks))
    for rank in ranks:
        assert surprise(values[rank - 1], thinned) == pytest.approx(surprise(values[rank - 1], whole(values)))


def test_an_exponential_tail_is_continued_at_its_own_rate() -> None:
    m = 9999
    values = [-3 * math.log1p(-rank / (m + 1)) for rank in range(1, m + 1)]
    assert surprise(60.0, whole(values)) == pytest.approx(60 / 3, rel=1e-6)


def test_it_is_continuous_at_both_ends_of_the_reference() -> None:
    reference = whole([1.0, 2.0, 4.0, 8.0])
    for end in (1.0, 8.0):
        below, above = surprise(end - 1e-9, reference), surprise(end + 1e-9, reference)
        assert below < above
        assert below == pytest.approx(above, abs=1e-8)


def test_far_below_the_reference_it_nears_zero_and_still_tells_scores_apart() -> None:
    reference = whole([0.0, 1.0, 2.0])
    assert 0 < surprise(-1e12, reference) < surprise(-1e11, reference) < 1e-9


def test_a_reference_of_one_repeated_value_still_orders_scores() -> None:
    reference = whole([5.0] * 10)
    surprises = [surprise(score, reference) for score in (-1e6, 0.0, 4.9, 5.0, 5.1, 10.0, 1e6)]
    assert all(a < b for a, b in pairwise(surprises))
