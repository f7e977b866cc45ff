import asyncio

import pytest

from service.errors import Unavailable
from service.labelling import parking
from service.labelling.parking import Parking, own_failures


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The event loop's clock, which a test sets."""
    now = [100.0]

    class Loop:
        def time(self) -> float:
            return now[0]

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    return now


def test_the_pauses_of_a_row_double_up_to_a_limit_until_it_is_done(clock: list[float]) -> None:
    made, pauses = Parking(), []
    for _ in range(11):
        made.park(7)
        due_s = made.next_due_s
        assert due_s is not None
        pauses.append(due_s - clock[0])
        clock[0] = due_s
        assert made.release_due()
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, parking.MAX_PAUSE_S, parking.MAX_PAUSE_S]
    made.done(7)
    made.park(7)
    assert made.next_due_s == clock[0] + parking.FIRST_PAUSE_S


def test_a_row_is_parked_until_its_pause_is_over(clock: list[float]) -> None:
    made = Parking()
    assert made.next_due_s is None
    made.park(7)
    clock[0] += 0.5
    made.park(8)
    assert (7 in made, 8 in made, 9 in made) == (True, True, False)
    assert not made.release_due()
    clock[0] += 0.5
    assert made.release_due()
    assert (7 in made, 8 in made) == (False, True)


def test_parking_is_over_once_every_parked_row_is_done(clock: list[float]) -> None:
    made = Parking()
    made.park(7)
    clock[0] += 1
    made.release_due()
    assert not made.is_over
    made.done(7)
    assert made.is_over


def test_a_failure_among_others_that_succeed_is_the_rows_own() -> None:
    error = OSError("spoiled")
    assert own_failures({1: None, 2: error}) == {2: error}
    assert own_failures({}) == {}


def test_a_single_row_fails_on_its_own_unless_its_server_is_away() -> None:
    error = ValueError("spoiled")
    assert own_failures({1: error}) == {1: error}
    with pytest.raises(Unavailable, match="away"):
        own_failures({1: Unavailable("away")})


def test_if_all_of_several_rows_fail_the_first_error_is_raised() -> None:
    with pytest.raises(OSError, match="full"):
        own_failures({1: OSError("full"), 2: OSError("full too")})
