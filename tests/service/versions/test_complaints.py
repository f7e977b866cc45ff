import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.inference.conduct import Conduct
from service.versions.complaints import (
    ALPHA,
    FAULT_SHARE,
    SLOW_SHARE,
    Before,
    fault_complaint,
    flag_complaint,
    is_more,
    looks,
    slow_complaint,
)

LOOKS = len(looks(2000))


def conduct(answered: int = 0, faults: int = 0, flagged: int = 0, run_s: float = 0.001, slow: int = 0) -> Conduct:
    """slow: the number of answers that took a hundred times as long."""
    made = Conduct()
    for number in range(answered):
        made.answer(run_s * (100 if number < slow else 1))
        made.weigh(lossy=number < flagged)
    for _ in range(faults):
        made.fault()
    return made


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.001, 0.6), st.sampled_from([0.05, 1e-3, 1e-6]))
def test_it_is_the_exact_binomial_test(hits: int, n: int, share: float, alpha: float) -> None:
    chance = stats.binom.sf(hits - 1, n, share)
    if abs(chance - alpha) > 1e-9:  # else rounding decides
        assert is_more(hits, n, share, alpha) == (hits > share * n and chance < alpha)


def test_it_looks_when_the_images_have_doubled_and_at_the_end() -> None:
    assert looks(2000) == [10, 20, 40, 80, 160, 320, 640, 1280, 2000]
    assert looks(100) == [10, 20, 40, 80, 100]


@pytest.mark.parametrize("share", [FAULT_SHARE, SLOW_SHARE, 0.2])
def test_a_version_at_the_limit_is_complained_of_no_more_often_than_promised(share: float) -> None:
    rng, rounds, marks = np.random.default_rng(0), 40_000, looks(2000)
    hits, crossed, before = np.zeros(rounds, int), np.zeros(rounds, bool), 0
    for n in marks:
        hits, before = hits + rng.binomial(n - before, share, rounds), n
        least = next(k for k in range(n + 2) if k > n or is_more(k, n, share, ALPHA / len(marks)))
        crossed |= hits >= least
    assert 0 < crossed.mean() <= ALPHA


def test_a_version_that_fails_at_every_image_is_complained_of_at_the_first_look() -> None:
    assert "10 of 10 images ended in an error" in (fault_complaint(conduct(faults=10), Before(), LOOKS) or "")
    assert fault_complaint(conduct(answered=9, faults=1), Before(), LOOKS) is None


def test_the_faults_of_the_version_before_are_allowed_for() -> None:
    bad = conduct(answered=950, faults=50)
    assert fault_complaint(bad, Before(faults=0.0), LOOKS) is not None
    assert fault_complaint(bad, Before(faults=0.05), LOOKS) is None


def test_flags_are_judged_by_the_promise_and_by_the_version_before() -> None:
    many = conduct(answered=200, flagged=100)
    told = flag_complaint(many, Before(flagged=0.1), 0.1, LOOKS)
    assert told == "100 of 200 images are flagged; at most 10% is promised and the version before flagged 10.0%"
    assert flag_complaint(many, Before(flagged=0.4), 0.1, LOOKS) is None  # the traffic is odd, for both
    assert flag_complaint(many, Before(), None, LOOKS) is None  # nothing is promised, and nothing is known
    assert flag_complaint(many, Before(), 0.1, LOOKS) is None  # half, on traffic that may be odd
    told = flag_complaint(conduct(answered=200, flagged=190), Before(), 0.1, LOOKS)
    assert told == "190 of 200 images are flagged; at most 10% is promised"


def test_a_slow_version_is_compared_with_the_99_percent_point_of_the_one_before() -> None:
    was = Before.of(conduct(answered=200))
    assert was.slowest_s == pytest.approx(0.001)
    assert "40 of 200 images took the engine longer" in (slow_complaint(conduct(200, slow=40), was, LOOKS) or "")
    assert slow_complaint(conduct(200, slow=4), was, LOOKS) is None  # one in fifty
    assert slow_complaint(conduct(200, slow=40), Before(), LOOKS) is None


def test_few_images_of_the_version_before_say_nothing() -> None:
    assert Before.of(conduct(answered=99)) == Before()
    assert Before.of(conduct(answered=90, faults=10)) == Before(faults=0.1)


def test_a_conduct_starts_again() -> None:
    one = conduct(answered=3, faults=2, flagged=1)
    assert one.images == 5
    one.restart()
    assert (one.images, one.weighed, one.flagged, len(one.times_s)) == (0, 0, 0, 0)
