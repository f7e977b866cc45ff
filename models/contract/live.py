"""Changes which version of a model is live: publish, promote, roll back, undo. All of them pass through one lock.

lock taken -> a change that a crash interrupted is settled -> model.json compared with what the caller expects ->
change announced -> model.json replaced -> line added to history.ndjson. model.json is the one authority: replacing it
is the moment of the change. See docs/decisions/0021-what-is-live-changes-by-compare-and-swap.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from models.contract.bundle import BundleError
from models.contract.history import (
    NOBODY,
    PENDING,
    Cause,
    Change,
    announce,
    change_now,
    forget,
    last_change,
    pending_change,
    read_history,
    record,
)
from models.contract.index import ModelIndex, read_index, write_index
from models.contract.lock import locked

LOCK = ".model.json.lock"
FIRST_LINE = "it was live when this history began"
FOUND = "it was found live: model.json was changed by hand or by an older program"


class LiveMoved(BundleError):  # noqa: N818 - the condition is the name
    """Another version is live than the caller expects. Nothing was changed."""


class NoVersion(BundleError):  # noqa: N818 - as above
    """The store has no such version of the model. Nothing was changed."""


class NoWayBack(BundleError):  # noqa: N818 - as above
    """There is no version to go back to. Nothing was changed."""


class NotWritable(BundleError):  # noqa: N818 - as above
    """The store cannot be written. It is safe to ask for the same change again."""


@dataclass(frozen=True, slots=True)
class Swap:
    """What a change did to model.json. `before` is None when there was none."""

    before: ModelIndex | None
    after: ModelIndex

    @property
    def is_change(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class LiveState:
    """What model.json says, with the changes that led there, oldest first."""

    index: ModelIndex
    changes: list[Change]


def read_state(model_folder: Path) -> LiveState:
    """The live version of a model and its history. Raises BundleError when one of the files is damaged."""
    index = read_index(model_folder)
    pending = pending_change(model_folder, index)  # read before the history, which may get this line meanwhile
    changes = read_history(model_folder)
    if pending and pending not in changes[-1:]:
        changes.append(pending)
    return LiveState(index, changes)


def make_live(folder: Path, who: str = "offline line", reason: str = "published") -> None:
    """Makes the version in `folder` the live one of its model, and the one before it `previous`.

    A version that is live already stays so, with the same `previous`. Raises BundleError when the store or the version
    is damaged, and NotWritable.
    """
    model_folder, number, cause = folder.parent, int(folder.name), Cause("live", reason, who)
    with _changing(model_folder) as index:
        if index is None:
            _change(model_folder, None, ModelIndex(live=number), cause)
        elif index.live == number:
            write_index(model_folder, index)  # config.pbtxt follows, if somebody changed model.json by hand
        else:
            _change(model_folder, index, _with_live(index, number), cause)


def swap_live(  # noqa: PLR0913 - all but three are keyword-only
    model_folder: Path,
    number: int,
    expected_live: int,
    *,
    who: str = NOBODY,
    reason: str,
    candidate: str | None = None,
) -> Swap:
    """Makes version `number` live if `expected_live` is live now; that one becomes `previous`.

    candidate: the one whose files the version has, for the history.

    It changes nothing when `number` is live already, so that a request without an answer can be repeated. Raises
    LiveMoved, NoVersion, NotWritable, and BundleError when the store or the version is damaged.
    """
    with _changing(model_folder) as found:
        index = found or read_index(model_folder)
        _check_version(model_folder, number)
        if index.live == number:
            return Swap(index, index)
        _check_live(model_folder, index, expected_live)
        cause = Cause("promoted", reason, who, candidate)
        return _change(model_folder, index, _with_live(index, number), cause)


def roll_back(model_folder: Path, expected_live: int, *, to: int | None = None, who: str = NOBODY, reason: str) -> Swap:
    """Makes the previous version live again, or version `to`; the version that it leaves becomes `previous`.

    After a rollback, `previous` is the version that somebody just took back. A second rollback needs `to`, so that it
    cannot bring that version back by mistake. The same request, repeated, changes nothing. Raises NoWayBack, LiveMoved,
    NoVersion, NotWritable, and BundleError when the store or the version is damaged.
    """
    with _changing(model_folder) as found:
        index = found or read_index(model_folder)
        last = last_change(model_folder)
        if to == index.live or (to is None and _is_repeated(last, index, expected_live)):
            return Swap(index, index)
        _check_live(model_folder, index, expected_live)
        target = _way_back(model_folder, index, last) if to is None else to
        _check_version(model_folder, target)
        return _change(model_folder, index, _with_live(index, target), Cause("rolled_back", reason, who))


def undo(model_folder: Path, swap: Swap, *, who: str = NOBODY, reason: str) -> None:
    """Takes a change back, `previous` and `shadow` included. Raises LiveMoved if model.json has changed since."""
    with _changing(model_folder) as index:
        if index != swap.after or swap.before is None:
            raise LiveMoved(f"{model_folder / 'model.json'} has changed since: version {index and index.live} is live")
        _change(model_folder, index, swap.before, Cause("rolled_back", reason, who))


@contextmanager
def _changing(model_folder: Path) -> Iterator[ModelIndex | None]:
    """Holds the lock. Yields what model.json says, None without one, once the history agrees with it."""
    try:
        with locked(model_folder / LOCK):
            index = read_index(model_folder) if (model_folder / "model.json").exists() else None
            if index is not None:
                _settle(model_folder, index)
            yield index
    except OSError as error:
        raise NotWritable(
            f"the bundle store cannot be written: {model_folder} ({error.strerror or error}); mount it writable for "
            "this program, or make the change where it is writable"
        ) from error


def _settle(model_folder: Path, index: ModelIndex) -> None:
    """Completes or drops a change that a crash interrupted, and notes a change that was made without this module."""
    pending = pending_change(model_folder, index)
    if pending is not None:
        record(model_folder, pending)
    elif (model_folder / PENDING).exists():
        with suppress(BundleError):  # a damaged live version must not stop the change that replaces it
            write_index(model_folder, index)  # config.pbtxt may name the version that did not become live
        forget(model_folder)
    last = last_change(model_folder)
    if last is None or last.version != index.live:
        before, why = (last.version, FOUND) if last else (None, FIRST_LINE)
        record(model_folder, change_now(model_folder, Cause("live", why), index.live, before))


def _change(model_folder: Path, index: ModelIndex | None, after: ModelIndex, cause: Cause) -> Swap:
    change = change_now(model_folder, cause, after.live, index.live if index else None)
    announce(model_folder, change)
    try:
        write_index(model_folder, after)
    except BundleError:
        forget(model_folder)
        raise
    record(model_folder, change)
    return Swap(index, after)


def _with_live(index: ModelIndex, number: int) -> ModelIndex:
    shadow = None if index.shadow == number else index.shadow
    return ModelIndex(live=number, previous=index.live, shadow=shadow)


def _way_back(model_folder: Path, index: ModelIndex, last: Change | None) -> int:
    if index.previous is None:
        raise NoWayBack(f"{model_folder.name} has no previous version: name one to go back to (`to`)")
    if last and last.event == "rolled_back" and last.before == index.previous:
        raise NoWayBack(
            f"{model_folder.name} was rolled back from version {index.previous} to {index.live} already: name "
            "the version to go back to (`to`), if you want another one"
        )
    return index.previous


def _is_repeated(last: Change | None, index: ModelIndex, expected_live: int) -> bool:
    done = ("rolled_back", index.live, expected_live)
    return last is not None and (last.event, last.version, last.before) == done


def _check_version(model_folder: Path, number: int) -> None:
    if not (model_folder / str(number) / "manifest.json").exists():
        raise NoVersion(f"{model_folder} has no version {number}: publish it first")


def _check_live(model_folder: Path, index: ModelIndex, expected: int) -> None:
    if index.live != expected:
        raise LiveMoved(
            f"version {index.live} of {model_folder.name} is live, not {expected}: look at the history, then ask again"
        )
