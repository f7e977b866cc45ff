import numpy as np
import pytest

from models.contract.manifest import OrderStatistics
from service.drift.statistics import onset
from service.drift.statistics.bins import Bins
from service.drift.statistics.onset import History, likeliest_start

EVEN = OrderStatistics(size=999, ranks=tuple(range(1, 1000)), values=tuple(rank / 1000 for rank in range(1, 1000)))


@pytest.fixture
def bins() -> Bins:
    return Bins.of(EVEN)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [0.15, -0.15])
def test_the_start_is_found_even_if_traffic_never_matched_the_reference_exactly(
    bins: Bins, seed: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    history, total = History.fresh(len(bins.alpha)), np.zeros(len(bins.alpha))
    for flush in range(60):
        history = history.add(100.0 + flush, total)
        offset = 0.02 + (shift if flush >= 45 else 0.0)
        values = np.clip(rng.random(40) + offset, 0, 1)
        total = total + np.bincount(bins.index(values), minlength=len(bins.alpha))
    found = history.times[likeliest_start(bins, history.sums, total, 1.0)]
    assert abs(found - 145.0) <= 3


def test_a_change_from_the_beginning_began_at_the_beginning(bins: Bins) -> None:
    rng = np.random.default_rng(0)
    history, total = History.fresh(len(bins.alpha)), np.zeros(len(bins.alpha))
    for flush in range(20):
        history = history.add(float(flush), total)
        total = total + np.bincount(bins.index(0.5 * rng.random(40)), minlength=len(bins.alpha))
    assert likeliest_start(bins, history.sums, total, 1.0) == 0


def test_a_history_is_bounded_dense_at_its_end_and_keeps_its_beginning() -> None:
    history = History.fresh(1)
    for flush in range(17_280):  # a day of flushes
        history = history.add(5.0 * flush, np.array([float(flush)]))
    assert len(history.times) == len(history.sums) == onset.MOMENTS
    assert history.times[0] == 0
    np.testing.assert_array_equal(history.times, 5 * history.sums[:, 0])
    age = history.times[-1] - history.times
    assert np.count_nonzero(age <= 60) >= 5
    assert (np.diff(history.times)[:-1] <= 0.5 * age[:-2] + 5).all()  # each gap is small for its age


def test_a_history_goes_through_json() -> None:
    history = History.fresh(2).add(1.0, np.array([0.0, 0.0])).add(2.0, np.array([3.0, 4.0]))
    again = History.from_json(history.to_json(), 2)
    np.testing.assert_array_equal(again.times, history.times)
    np.testing.assert_array_equal(again.sums, history.sums)
    assert History.from_json(History.fresh(2).to_json(), 2).sums.shape == (0, 2)
