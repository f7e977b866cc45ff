"""A promotion or a rollback, from the store to the version that this replica serves.

model.json swapped in the store -> the version loaded here -> made live here. If it cannot be loaded, the swap is
undone: no replica should follow to a version that does not work. The other replicas find the change when they poll the
store.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.contract import live, promotion
from models.contract.bundle import BundleError
from models.contract.live import NotWritable, NoVersion, Swap
from service.errors import Conflict, NotFound, ServiceError, Unavailable
from service.telemetry.metrics import Metrics
from service.versions.bundle_store import PatientStore, StoreAway
from service.versions.served_model import ServedModel

log = logging.getLogger(__name__)

MYSELF = "losscast"  # named in the history when the service undoes a change


@dataclass(frozen=True, slots=True)
class LiveChange:
    """What a caller asks for."""

    event: Literal["promoted", "rolled_back"]
    version: int | None  # None, for a rollback only: the previous one
    expected_live: int
    who: str
    reason: str
    candidate: str | None = None  # to promote, in the place of a version
    override: bool = False  # of its gates

    def swap(self, model_folder: Path) -> Swap:
        """Changes model.json, and the records of candidates with it. Raises BundleErrors."""
        if self.candidate is not None:
            return promotion.promote_candidate(
                model_folder,
                self.candidate,
                self.expected_live,
                who=self.who,
                reason=self.reason,
                override=self.override,
            )
        swap = self._swap_version(model_folder)
        _settle(model_folder)
        return swap

    def _swap_version(self, model_folder: Path) -> Swap:
        if self.event == "promoted" and self.version is not None:
            return live.swap_live(model_folder, self.version, self.expected_live, who=self.who, reason=self.reason)
        return live.roll_back(model_folder, self.expected_live, to=self.version, who=self.who, reason=self.reason)


@contextmanager
def as_service_errors() -> Iterator[None]:
    """Raises the store's errors again as errors that reach a caller."""
    try:
        yield
    except NoVersion as error:
        raise NotFound(str(error)) from error
    except (StoreAway, NotWritable) as error:
        raise Unavailable(str(error)) from error
    except BundleError as error:
        raise Conflict(str(error)) from error


async def carry_out(change: LiveChange, store: PatientStore, model: ServedModel, metrics: Metrics) -> Swap:
    """Makes the change in the store and here. The caller alone may change the model meanwhile.

    Raises NotFound for an unknown version, Conflict when another version is live, when there is no way back, and when
    the version cannot be loaded (the change is undone), Unavailable when the store is away or cannot be written.
    """
    with as_service_errors():
        swap = await store.swap(model.name, change.swap)
    if swap.is_change:
        _tell(change, swap, model.name, metrics)
    try:
        await model.load()
    except StoreAway as error:
        raise Unavailable(f"version {swap.after.live} of {model.name} is live, but not loaded here: {error}") from error
    except Conflict as error:
        if swap.is_change:
            raise Conflict(f"{error}; {await _take_back(swap, store, model, error)}") from error
        raise
    return swap


def _tell(change: LiveChange, swap: Swap, model: str, metrics: Metrics) -> None:
    before = swap.before.live if swap.before else None
    metrics.live_changed(model, change.event)
    what = "promoted" if change.event == "promoted" else "rolled back to"
    log.info("%s: %s %s version %s (%s was live): %s", model, change.who, what, swap.after.live, before, change.reason)


async def _take_back(swap: Swap, store: PatientStore, model: ServedModel, fault: ServiceError) -> str:
    """Undoes the swap. Returns, in words, what model.json says now."""
    reason = f"version {swap.after.live} could not be loaded: {fault}"
    try:
        await store.swap(model.name, lambda folder: _undo(folder, swap, reason))
        await model.follow()
    except BundleError as error:
        log.error("%s: version %s stays live in model.json: %s", model.name, swap.after.live, error)  # noqa: TRY400 - one line
        return f"model.json still names version {swap.after.live}, because the change could not be undone: {error}"
    log.error("%s: the change to version %s was undone: %s", model.name, swap.after.live, fault)
    return "the change was undone"


def _undo(model_folder: Path, swap: Swap, reason: str) -> None:
    live.undo(model_folder, swap, who=MYSELF, reason=reason)
    _settle(model_folder)


def _settle(model_folder: Path) -> None:
    """Records of candidates follow what is live. A fault there must not hide that the change happened."""
    try:
        promotion.settle(model_folder)
    except BundleError as error:
        log.warning("%s: the records of candidates do not follow yet: %s", model_folder.name, error)
