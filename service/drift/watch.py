"""One version on this replica: its tally, and the way from there into the ledger.

What was taken from the tally and not confirmed stays as it is, under its sequence number, until the ledger has it;
meanwhile the tally goes on adding up. So a server that is away costs nothing but time, in memory that does not grow.
"""

import time
import uuid
from collections.abc import Callable, Iterator

from models.contract.manifest import Manifest
from service.drift.layout import Layout
from service.drift.ledger import Parcel, Place
from service.drift.tally import Tally


class Watch:
    def __init__(self, layout: Layout, tally: Tally) -> None:
        self.layout, self.tally = layout, tally
        self.place = Place(layout.manifest.model, layout.manifest.version, layout.fingerprint)
        self.is_retired = False  # its line is closed: nothing more is observed
        self._sequence = 0
        self._under_way: Parcel | None = None
        self.replica = uuid.uuid4().hex  # its own: a version that comes back counts from 0 again

    @property
    def unflushed(self) -> int:
        """Images that a crash of this process would take out of the count."""
        return self.tally.unflushed + (self._under_way.images if self._under_way else 0)

    def retire(self) -> None:
        self.is_retired = True

    def pack(self) -> Parcel | None:
        """What is to be flushed: the parcel that is under way, or what there is since; None for nothing."""
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
    """Those of all lines of this replica, retired ones until they are flushed."""

    def __init__(self, source_interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._source_interval_s, self._clock = source_interval_s, clock
        self._watches: list[Watch] = []
        self._faults = 0  # of those forgotten

    def __iter__(self) -> Iterator[Watch]:
        return iter(list(self._watches))

    @property
    def unflushed(self) -> int:
        return sum(watch.unflushed for watch in self._watches)

    @property
    def faults(self) -> int:
        """Images that a fault kept from counting."""
        return self._faults + sum(watch.tally.faults for watch in self._watches)

    def open(self, manifest: Manifest) -> Watch:
        """Raises ValueError for references that nothing can be judged by."""
        layout = Layout(manifest)
        watch = Watch(layout, Tally(layout, self._source_interval_s, self._clock))
        self._watches.append(watch)
        return watch

    def tidy(self) -> None:
        """Forgets those that are retired and flushed."""
        done = [watch for watch in self._watches if watch.is_retired and not watch.unflushed]
        self._faults += sum(watch.tally.faults for watch in done)
        self._watches = [watch for watch in self._watches if watch not in done]
