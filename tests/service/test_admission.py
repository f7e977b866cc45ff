import pytest

from service.admission import Admission
from service.errors import QueueFull


def test_no_more_images_than_the_bound_are_admitted_and_places_come_back() -> None:
    admission = Admission(max_in_flight=3, max_in_flight_bytes=1000)
    with admission.admit(1), admission.admit(1):
        with pytest.raises(QueueFull, match="retry"), admission.admit(1, images=2):
            pass
        with admission.admit(1):
            assert admission.in_flight == 3
    assert admission.in_flight == 0


def test_no_more_bytes_than_the_bound_are_admitted_but_one_request_always_is() -> None:
    admission = Admission(max_in_flight=100, max_in_flight_bytes=1000)
    with admission.admit(600):
        with pytest.raises(QueueFull), admission.admit(500):
            pass
        with admission.admit(400):
            assert admission.in_flight_bytes == 1000
    with admission.admit(5000):
        assert admission.in_flight_bytes == 5000
    assert admission.in_flight_bytes == 0


def test_a_request_that_fails_gives_its_places_back() -> None:
    admission = Admission(max_in_flight=1, max_in_flight_bytes=1000)
    with pytest.raises(ZeroDivisionError), admission.admit(600):
        raise ZeroDivisionError
    assert (admission.in_flight, admission.in_flight_bytes) == (0, 0)


def test_the_further_images_of_a_request_larger_than_the_bound_need_places_and_no_bytes() -> None:
    admission = Admission(max_in_flight=3, max_in_flight_bytes=1000)
    with admission.admit(5000):
        with admission.admit(0, images=2):
            assert (admission.in_flight, admission.in_flight_bytes) == (3, 5000)
        with pytest.raises(QueueFull), admission.admit(0, images=3):
            pass
