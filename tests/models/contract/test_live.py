"""Changes of the live version: one winner, and no crash that leaves half of a change."""

import json
import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.contract import history
from models.contract.bundle import BundleError, publish
from models.contract.history import HISTORY, PENDING, read_history
from models.contract.index import ModelIndex, read_index, write_index
from models.contract.live import (
    FIRST_LINE,
    FOUND,
    LOCK,
    LiveMoved,
    NotWritable,
    NoVersion,
    NoWayBack,
    Swap,
    make_live,
    read_state,
    roll_back,
    swap_live,
    undo,
)
from models.contract.manifest import Manifest

WHY = "a test"
FILES = {"model.onnx": b"onnx", "model_card.md": b"# card\n"}
# Kills itself in the middle of a promotion, just before or just after the named step.
KILLED = """
import os, signal, sys
from pathlib import Path
from models.contract import live

step, moment, folder = sys.argv[1:]
real = getattr(live, step)

def killed(*arguments):
    if moment == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(live, step, killed)
live.swap_live(Path(folder), 2, 1, who="ada", reason="killed")
"""


def events(folder: Path) -> list[tuple[str, int, int | None]]:
    return [(change.event, change.version, change.before) for change in read_history(folder)]


def test_a_promotion_is_one_line_with_who_why_and_the_hash(folder: Path) -> None:
    assert swap_live(folder, 2, 1, who="ada", reason=WHY) == Swap(ModelIndex(live=1), ModelIndex(live=2, previous=1))
    assert read_index(folder) == ModelIndex(live=2, previous=1)
    assert "versions: [ 2 ]" in (folder / "config.pbtxt").read_text()
    first, change = read_history(folder)
    assert (first.event, first.version, first.before, first.reason) == ("live", 1, None, FIRST_LINE)
    assert (change.event, change.version, change.before, change.who, change.reason) == ("promoted", 2, 1, "ada", WHY)
    assert change.at.endswith("+00:00")
    assert change.onnx_sha256 == json.loads((folder / "2/manifest.json").read_bytes())["onnx_sha256"]
    assert not (folder / PENDING).exists()


def test_a_promotion_fails_when_live_has_moved_and_says_what_is_live(folder: Path) -> None:
    swap_live(folder, 2, 1, reason=WHY)
    with pytest.raises(LiveMoved, match="version 2 of tiny is live, not 1"):
        swap_live(folder, 3, 1, reason=WHY)
    assert read_index(folder) == ModelIndex(live=2, previous=1)


def test_a_promotion_that_is_asked_for_twice_happens_once(folder: Path) -> None:
    assert swap_live(folder, 2, 1, reason=WHY).is_change
    assert not swap_live(folder, 2, 1, reason=WHY).is_change
    assert events(folder) == [("live", 1, None), ("promoted", 2, 1)]


def test_a_version_that_is_not_published_or_damaged_does_not_become_live(folder: Path) -> None:
    with pytest.raises(NoVersion, match="no version 7: publish it first"):
        swap_live(folder, 7, 1, reason=WHY)
    (folder / "3/manifest.json").write_text("{")
    with pytest.raises(BundleError):
        swap_live(folder, 3, 1, reason=WHY)
    assert read_index(folder) == ModelIndex(live=1)
    assert events(folder) == [("live", 1, None)]
    assert not (folder / PENDING).exists()


def test_a_promoted_shadow_is_no_shadow_any_more(folder: Path) -> None:
    write_index(folder, ModelIndex(live=1, shadow=2))
    swap_live(folder, 2, 1, reason=WHY)
    assert read_index(folder) == ModelIndex(live=2, previous=1)


def test_a_rollback_goes_to_the_previous_version_and_keeps_the_other_at_hand(folder: Path) -> None:
    swap_live(folder, 2, 1, reason=WHY)
    roll_back(folder, 2, who="ada", reason="worse")
    assert read_index(folder) == ModelIndex(live=1, previous=2)
    last = read_history(folder)[-1]
    assert (last.event, last.version, last.before, last.who, last.reason) == ("rolled_back", 1, 2, "ada", "worse")


def test_a_second_rollback_needs_the_version_and_a_repeated_one_changes_nothing(folder: Path) -> None:
    swap_live(folder, 2, 1, reason=WHY)
    roll_back(folder, 2, reason=WHY)
    assert not roll_back(folder, 2, reason=WHY).is_change  # the answer to the first one was lost
    with pytest.raises(NoWayBack, match="was rolled back from version 2 to 1 already"):
        roll_back(folder, 1, reason=WHY)
    assert roll_back(folder, 1, to=3, reason=WHY).after == ModelIndex(live=3, previous=1)
    assert not roll_back(folder, 1, to=3, reason=WHY).is_change
    with pytest.raises(LiveMoved):
        roll_back(folder, 2, to=1, reason=WHY)


def test_there_is_no_way_back_from_the_only_version(folder: Path) -> None:
    with pytest.raises(NoWayBack, match="no previous version"):
        roll_back(folder, 1, reason=WHY)


def test_an_undone_change_brings_all_of_the_index_back_and_stays_in_the_history(folder: Path) -> None:
    before = ModelIndex(live=2, previous=1, shadow=3)
    write_index(folder, before)
    swap = swap_live(folder, 3, 2, reason=WHY)
    undo(folder, swap, reason="it does not load")
    assert read_index(folder) == before
    assert events(folder)[-2:] == [("promoted", 3, 2), ("rolled_back", 2, 3)]
    with pytest.raises(LiveMoved):
        undo(folder, swap, reason=WHY)
    assert roll_back(folder, 2, reason=WHY).after.live == 1  # an undone promotion does not use up the way back


def test_what_training_publishes_goes_live_through_the_same_history(folder: Path) -> None:
    make_live(folder / "2")
    make_live(folder / "2")
    assert read_index(folder) == ModelIndex(live=2, previous=1)
    assert events(folder) == [("live", 1, None), ("live", 2, 1)]


def test_a_version_that_goes_live_again_keeps_the_previous_one(tmp_path: Path, tiny_version: Manifest) -> None:
    first = publish(tmp_path, tiny_version, FILES)
    second = publish(tmp_path, tiny_version.model_copy(update={"version": "2"}), FILES)
    for folder in (first, second, second):
        make_live(folder)
    assert read_index(tmp_path / "tiny") == ModelIndex(live=2, previous=1)


def test_the_first_version_of_a_model_goes_live(tmp_path: Path, publish_version: Callable[..., None]) -> None:
    publish_version(tmp_path, 1)
    make_live(tmp_path / "tiny/1")
    assert read_index(tmp_path / "tiny") == ModelIndex(live=1)
    assert events(tmp_path / "tiny") == [("live", 1, None)]


def test_a_change_by_hand_is_noted_by_the_next_change(folder: Path) -> None:
    swap_live(folder, 2, 1, reason=WHY)
    write_index(folder, ModelIndex(live=3, previous=2))
    swap_live(folder, 1, 3, reason=WHY)
    assert events(folder)[-2:] == [("live", 3, 2), ("promoted", 1, 3)]
    assert read_history(folder)[-2].reason == FOUND


def test_of_processes_that_promote_at_once_exactly_one_wins(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        now = read_index(folder).live
        before = len(read_history(folder))
        start, results = context.Barrier(2), context.Queue()
        others = [version for version in (1, 2, 3) if version != now]
        racers = [context.Process(target=_race, args=(folder, one, now, start, results)) for one in others]
        for racer in racers:
            racer.start()
        won = sorted(results.get(timeout=30) for _ in racers)
        for racer in racers:
            racer.join(30)
        assert [one for one in won if one] == [read_index(folder).live]
        assert len(read_history(folder)) == before + (1 if before else 2)


def _race(folder: Path, version: int, expected: int, start: Any, results: Any) -> None:
    start.wait()
    try:
        swap_live(folder, version, expected, reason=WHY)
        results.put(version)
    except LiveMoved:
        results.put(0)


@pytest.mark.parametrize(
    ("step", "moment", "happened"),
    [
        ("announce", "before", False),
        ("announce", "after", False),
        ("write_index", "after", True),
        ("record", "before", True),
        ("record", "after", True),
    ],
)
def test_a_promotion_that_is_killed_happened_with_its_line_or_not_at_all(
    folder: Path,
    step: str,
    moment: str,
    happened: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    with pytest.raises(LiveMoved):
        swap_live(folder, 3, 2, reason=WHY)  # it begins the history, so that `record` is called once below
    killed = subprocess.run([sys.executable, "-c", KILLED, step, moment, str(folder)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert read_index(folder) == (ModelIndex(live=2, previous=1) if happened else ModelIndex(live=1))
    shown = read_state(folder).changes
    assert (shown[-1].who, shown[-1].version) == (("ada", 2) if happened else ("unknown", 1))
    now = 2 if happened else 1
    swap_live(folder, 3, now, reason=WHY)
    done = [("promoted", 2, 1)] if happened else []
    assert events(folder) == [("live", 1, None), *done, ("promoted", 3, now)]
    assert not (folder / PENDING).exists()
    assert "versions: [ 3 ]" in (folder / "config.pbtxt").read_text()


def test_tritons_config_follows_model_json_again_after_a_promotion_that_did_not_happen(folder: Path) -> None:
    change = history.change_now(folder, history.Cause("promoted", WHY), 2, 1)
    history.announce(folder, change)
    (folder / "config.pbtxt").write_text("for version 2")
    with pytest.raises(LiveMoved):
        swap_live(folder, 3, 2, reason=WHY)
    assert "versions: [ 1 ]" in (folder / "config.pbtxt").read_text()


def test_a_store_that_cannot_be_written_is_told_and_unchanged(folder: Path) -> None:
    (folder / LOCK).mkdir()  # like a read-only store: the lock's file cannot be opened
    with pytest.raises(NotWritable, match=r"cannot be written: .*mount it writable"):
        swap_live(folder, 2, 1, reason=WHY)
    assert read_index(folder) == ModelIndex(live=1)
    assert not (folder / HISTORY).exists()
