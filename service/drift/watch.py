"""One version on this replica: its tally, and the parcel on its way from there into the ledger.

A parcel keeps its content and its sequence number until the ledger confirms it. Meanwhile the tally goes on counting.
So nothing is lost while the server is away, and the memory does not grow.
"""

import time
import uuid
from collections.abc import Callable, Iterator

from models.contract.manifest import Manifest
from service.drift.layout import Layout
from service.drift.ledger import LedgerKey, Parcel
from service.drift.tally import Tally


class Watch:
    def __init__(self, layout: Layout, tally: Tally) -> None:
        self.layout, self.tally = layout, tally
        self.place = LedgerKey(layout.manifest.model, layout.manifest.version, layout.fingerprint)
        self.is_retired = False  # its version is closed: no more images will come
        self._sequence = 0
        self._under_way: Parcel | None = None
        self.replica = uuid.uuid4().hex  # a new name each time: a version that is loaded again counts from 0

    @property
    def unflushed(self) -> int:
        """Images that a crash of this process would lose from the count."""
        return self.tally.unflushed + (self._under_way.images if self._under_way else 0)

    def retire(self) -> None:
        self.is_retired = True

    def pack(self) -> Parcel | None:
        """The parcel to flush: the unconfirmed one, or else the images since then. None if there are none."""
        if self._under_way is None:
            images, sums = self.tally.unflushed, self.tally.take()
            if sums is not None:
                self._sequence += 1
                self._under_way = Parcel(self._sequence, sums, images)
        return self._under_way

    def delivered(self) -> None:
        """The ledger has the parcel."""
        self._under_way = None


class Watches:
    """The watches of all versions on this replica; a retired one stays until it is flushed."""

    def __init__(self, source_interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._source_interval_s, self._clock = source_interval_s, clock
        self._watches: list[Watch] = []
        self._faults = 0  # of watches that are gone

    def __iter__(self) -> Iterator[Watch]:
        return iter(list(self._watches))

    @property
    def unflushed(self) -> int:
        return sum(watch.unflushed for watch in self._watches)

    @property
    def faults(self) -> int:
        """Images that do not count because observing them failed."""
        return self._faults + sum(watch.tally.faults for watch in self._watches)

    def open(self, manifest: Manifest) -> Watch:
        """Raises ValueError for a reference that cannot be used."""
        layout = Layout(manifest)
        watch = Watch(layout, Tally(layout, self._source_interval_s, self._clock))
        self._watches.append(watch)
        return watch

    def tidy(self) -> None:
        """Drops the watches that are retired and flushed."""
        done = [watch for watch in self._watches if watch.is_retired and not watch.unflushed]
        self._faults += sum(watch.tally.faults for watch in done)
        self._watches = [watch for watch in self._watches if watch not in done]
