"""What the whole service takes on at a time, bounded in images and in bytes; what is more is refused at once.

One for all models: memory is one. A slow model slows its callers down, and not the machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import QueueFull


class Admission:
    def __init__(self, max_in_flight: int, max_in_flight_bytes: int) -> None:
        self._max_in_flight = max_in_flight
        self._max_in_flight_bytes = max_in_flight_bytes
        self.in_flight = 0
        self.in_flight_bytes = 0

    @contextmanager
    def admit(self, size_bytes: int, images: int = 1) -> Iterator[None]:
        """Holds places for a request's images and its bytes, from before they are read until they are answered.

        Raises QueueFull when either runs out; a single request is always admitted, whatever its size.
        Its further images, once it is known how many it has, bring no more bytes.
        """
        full = self.in_flight + images > self._max_in_flight or (
            size_bytes and self.in_flight_bytes + size_bytes > self._max_in_flight_bytes
        )
        if full and self.in_flight:
            raise QueueFull(f"{self.in_flight} images are being answered, no more are admitted: retry after a second")
        self.in_flight += images
        self.in_flight_bytes += size_bytes
        try:
            yield
        finally:
            self.in_flight -= images
            self.in_flight_bytes -= size_bytes
