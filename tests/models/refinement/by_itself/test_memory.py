import math
from pathlib import Path

from models.refinement.by_itself.memory import FILE, Memory


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    Memory(labelled=7, at=3600.0).keep(tmp_path / "candidates")
    found = Memory.read(tmp_path / "candidates")
    assert (found.new_labels(10), found.hours(2 * 3600.0)) == (3, 1)


def test_a_missing_or_damaged_file_remembers_nothing(tmp_path: Path) -> None:
    assert Memory.read(tmp_path) == Memory()
    (tmp_path / FILE).write_bytes(b'{"labelled": "many"')
    assert Memory.read(tmp_path) == Memory()
    assert math.isinf(Memory.read(tmp_path).hours(1e9))


def test_a_queue_that_was_emptied_has_only_new_labels() -> None:
    assert Memory(labelled=500, at=1.0).new_labels(20) == 20
