"""The history of the live version: lines that a crash or a hand has damaged."""

import json
from pathlib import Path

import pytest

from models.contract import history
from models.contract.bundle import BundleError
from models.contract.history import HISTORY, Change, last_change, read_history
from models.contract.live import read_state, roll_back, swap_live

WHY = "a test"


def events(folder: Path) -> list[tuple[str, int, int | None]]:
    return [(change.event, change.version, change.before) for change in read_history(folder)]


def test_a_last_line_that_was_cut_off_is_skipped_and_then_repaired(folder: Path) -> None:
    swap_live(folder, 2, 1, reason=WHY)
    whole = (folder / HISTORY).read_bytes()
    with (folder / HISTORY).open("ab") as file:
        file.write(whole.splitlines()[-1][:40])
    assert events(folder) == [("live", 1, None), ("promoted", 2, 1)]
    swap_live(folder, 3, 2, reason=WHY)
    assert (folder / HISTORY).read_bytes().startswith(whole)
    assert events(folder) == [("live", 1, None), ("promoted", 2, 1), ("promoted", 3, 2)]


def test_a_cut_off_line_whose_change_happened_is_written_whole(folder: Path) -> None:
    swap_live(folder, 2, 1, who="ada", reason=WHY)
    change = last_change(folder)
    assert change is not None
    lines = (folder / HISTORY).read_bytes().splitlines(keepends=True)
    (folder / HISTORY).write_bytes(lines[0] + lines[1][:-1])  # only its line break is missing
    history.announce(folder, change)
    assert read_state(folder).changes[-1] == change
    swap_live(folder, 3, 2, reason=WHY)
    assert read_history(folder)[1] == change
    assert len(read_history(folder)) == 3


def test_a_damaged_line_is_named_to_readers_and_does_not_stop_a_rollback(folder: Path) -> None:
    swap_live(folder, 2, 1, reason=WHY)
    with (folder / HISTORY).open("ab") as file:
        file.write(b"no json\n")
    with pytest.raises(BundleError, match="damaged in line 3"):
        read_state(folder)
    assert roll_back(folder, 2, reason=WHY).after.live == 1


def test_a_newer_program_may_add_fields_to_a_line(folder: Path) -> None:
    swap_live(folder, 2, 1, reason=WHY)
    line = json.loads((folder / HISTORY).read_bytes().splitlines()[-1])
    assert Change.model_validate({**line, "report": "gates.json"}).version == 2
