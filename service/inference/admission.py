"""Limits how many images, and how many bytes, the whole service works on at a time. It refuses more at once.

The limits are for all models together, because they share the memory. A slow model slows its own callers down, not the
machine. Bytes count as they come, and images once their body has come: a client that sends slowly, or less than it
announced, takes no image's place.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import QueueFull


class Admission:
    def __init__(self, max_in_flight: int, max_in_flight_bytes: int) -> None:
        self.max_in_flight = max_in_flight
        self.max_in_flight_bytes = max_in_flight_bytes
        self.in_flight = 0
        self.in_flight_bytes = 0

    @contextmanager
    def request(self, announced_bytes: int) -> Iterator["Places"]:
        """Around one request, from before its body is read until it is answered. It holds nothing at first.

        Raises QueueFull when there is no room for the request now.
        """
        places = Places(self)
        places.check(announced_bytes, 1)
        try:
            yield places
        finally:
            self.in_flight -= places.images
            self.in_flight_bytes -= places.size_bytes


class Places:
    """The images and bytes that one request holds."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.images = 0
        self.size_bytes = 0

    def check(self, size_bytes: int, images: int) -> None:
        """Raises QueueFull when this would exceed a limit, unless no other request holds anything."""
        one = self._admission
        full = one.in_flight + images > one.max_in_flight or (
            size_bytes and one.in_flight_bytes + size_bytes > one.max_in_flight_bytes
        )
        if full and (one.in_flight > self.images or one.in_flight_bytes > self.size_bytes):
            raise QueueFull(
                f"{one.in_flight} images are being answered and {one.in_flight_bytes} bytes are held, no more are "
                "admitted: retry after a second"
            )

    def take(self, size_bytes: int = 0, images: int = 0) -> None:
        """Holds these as well until the request is answered. Raises QueueFull."""
        self.check(size_bytes, images)
        self.size_bytes += size_bytes
        self.images += images
        self._admission.in_flight_bytes += size_bytes
        self._admission.in_flight += images
