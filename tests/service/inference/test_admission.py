from contextlib import ExitStack

import pytest

from service.errors import QueueFull
from service.inference.admission import Admission


def test_no_more_images_than_the_bound_are_admitted_and_places_come_back() -> None:
    admission = Admission(max_in_flight=3, max_in_flight_bytes=1000)
    with admission.request(1) as one, admission.request(1) as other:
        one.take(images=2)
        with pytest.raises(QueueFull, match="retry"):
            other.take(images=2)
        other.take(images=1)
        assert admission.in_flight == 3
        with pytest.raises(QueueFull), admission.request(1):
            pass
    assert admission.in_flight == 0


def test_no_more_bytes_than_the_bound_are_admitted_except_for_a_single_request() -> None:
    admission = Admission(max_in_flight=100, max_in_flight_bytes=1000)
    with admission.request(600) as one:
        one.take(600)
        with pytest.raises(QueueFull), admission.request(500):
            pass
        with admission.request(400) as other:
            other.take(400)
            assert admission.in_flight_bytes == 1000
            with pytest.raises(QueueFull):
                other.take(1)
    with admission.request(5000) as alone:
        alone.take(5000, images=2)
        assert admission.in_flight_bytes == 5000
    assert admission.in_flight_bytes == 0


def test_a_request_that_fails_gives_its_places_back() -> None:
    admission = Admission(max_in_flight=1, max_in_flight_bytes=1000)

    def fail() -> None:
        with admission.request(600) as places:
            places.take(600, images=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (admission.in_flight, admission.in_flight_bytes) == (0, 0)


def test_a_request_that_only_announces_its_body_takes_no_place() -> None:
    admission = Admission(max_in_flight=2, max_in_flight_bytes=1000)
    with ExitStack() as stack:
        slow = [stack.enter_context(admission.request(1000)) for _ in range(50)]
        for one in slow:
            one.take(1)
        with admission.request(900) as quick:
            quick.take(900, images=1)
            assert (admission.in_flight, admission.in_flight_bytes) == (1, 950)
        with pytest.raises(QueueFull):
            slow[0].take(951)
