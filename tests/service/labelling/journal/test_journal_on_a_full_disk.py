"""The journal on a real disk, a tmpfs of a few MiB: a limit on one file cannot imitate a full disk."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from service.labelling.journal.disk_reserve import SIZE_BYTES, Reserve
from service.labelling.journal.errors import JournalUnavailable
from service.labelling.journal.journal import Journal
from service.labelling.samples.sample import Sample

MakeSample = Callable[..., Sample]
DISK_BYTES = 32 * 2**20
IMAGE = os.urandom(20_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "losscast-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607 - wherever the system has it


def opened(folder: Path) -> Journal:
    return Journal.open(folder, max_bytes=2**30, max_rows=10**6)


async def fill(journal: Journal, make_sample: MakeSample, first: int = 0) -> int:
    """Appends a few at a time until refused. Returns how many were accepted."""
    taken = 0
    while True:
        some = [make_sample(f"{first + taken + n}") for n in range(8)]
        results = await asyncio.gather(*(journal.append(one, IMAGE) for one in some), return_exceptions=True)
        taken += results.count(None)
        if refused := [one for one in results if one is not None]:
            assert all(isinstance(one, JournalUnavailable) and "full" in str(one) for one in refused)
            return taken


async def delete_all(journal: Journal) -> None:
    while entries := await journal.oldest(64):
        await journal.delete([entry.row for entry in entries])


async def until_it_takes(journal: Journal, sample: Sample) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await journal.append(sample, IMAGE)
            except JournalUnavailable:  # it asks the disk for room once a second
                await asyncio.sleep(0.05)


def written(file: BinaryIO) -> bool:
    try:
        return bool(file.write(bytes(4096)))
    except OSError:
        return False


async def test_a_journal_that_filled_its_disk_can_be_drained_and_takes_samples_again(
    disk: Path, make_sample: MakeSample
) -> None:
    journal = opened(disk)
    for turn in range(3):
        taken = await fill(journal, make_sample, 10_000 * turn)
        assert taken > 100
        assert journal.rows == taken
        await delete_all(journal)
        assert journal.rows == 0
        await until_it_takes(journal, make_sample(f"turn {turn}"))
        await delete_all(journal)
    await journal.close()


async def test_the_samples_left_after_a_part_was_drained_are_complete(disk: Path, make_sample: MakeSample) -> None:
    journal = opened(disk)
    taken = await fill(journal, make_sample)
    entries = await journal.oldest(taken)
    gone, left = entries[::2], entries[1::2]
    await journal.delete([entry.row for entry in gone])
    await until_it_takes(journal, make_sample("after"))
    await journal.close()
    journal = opened(disk)
    assert [(entry.id, entry.image) for entry in await journal.oldest(taken)] == [
        *((entry.id, IMAGE) for entry in left),
        (make_sample("after").id, IMAGE),
    ]
    await journal.close()


async def test_a_disk_that_something_else_filled_is_no_obstacle_to_opening_and_deleting(
    disk: Path, make_sample: MakeSample
) -> None:
    journal = opened(disk)
    samples = [make_sample(f"{n}") for n in range(20)]
    for sample in samples:
        await journal.append(sample, IMAGE)
    await journal.close()
    intruder = disk / "intruder"
    with intruder.open("wb", buffering=0) as file:
        while written(file):
            pass
    journal = opened(disk)
    assert journal.rows == 20
    await delete_all(journal)
    assert journal.rows == 0
    intruder.unlink()
    await until_it_takes(journal, samples[0])
    await journal.close()


async def test_a_long_list_of_free_pages_is_given_back_in_steps_and_counts_as_room(
    disk: Path, make_sample: MakeSample
) -> None:
    journal = opened(disk)
    taken = await fill(journal, make_sample)
    await delete_all(journal)
    free_bytes = journal._table.free_bytes
    assert free_bytes > taken * len(IMAGE) // 2  # a file that shrank at once would hold up whoever waits
    for n in range(taken // 2):
        await until_it_takes(journal, make_sample(f"again {n}"))
    assert journal.rows == taken // 2
    await journal.close()


async def test_a_folder_that_is_gone_is_reported_to_all_who_wait(tmp_path: Path, make_sample: MakeSample) -> None:
    folder = tmp_path / "journal"
    journal = opened(folder)
    await journal.append(make_sample("before"), IMAGE)
    shutil.rmtree(folder)
    async with asyncio.timeout(30):
        for n in range(3):
            with pytest.raises(JournalUnavailable, match="cannot be written"):
                await journal.append(make_sample(f"{n}"), IMAGE)
    await journal.close()


async def test_the_bytes_that_wait_for_a_slow_disk_are_bounded(
    tmp_path: Path, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.labelling.journal.writer.MAX_WAITING_BYTES", 5 * len(IMAGE))
    journal = opened(tmp_path)
    blocker = sqlite3.connect(tmp_path / "journal.sqlite3", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    appending = [asyncio.create_task(journal.append(make_sample(f"{n}"), IMAGE)) for n in range(10)]
    await asyncio.sleep(0)
    assert sum(one.done() for one in appending) >= 5
    blocker.execute("ROLLBACK")
    blocker.close()
    results = await asyncio.gather(*appending, return_exceptions=True)
    refused = [one for one in results if one is not None]
    assert all("wait for its disk" in str(one) for one in refused)
    assert journal.rows == 10 - len(refused) == 4
    await journal.append(make_sample("after"), IMAGE)
    await journal.close()


def test_the_reserve_is_held_only_in_full_and_not_asked_for_all_the_time(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(disk / "reserve")
    assert reserve.take()
    assert (disk / "reserve").stat().st_size == SIZE_BYTES
    reserve.give_up()
    assert not (disk / "reserve").exists()
    (disk / "other").write_bytes(bytes(DISK_BYTES - SIZE_BYTES // 2))
    assert not reserve.take()
    assert not (disk / "reserve").exists()  # what it got of the room is not kept from others
    (disk / "other").unlink()
    assert not reserve.take()
    monkeypatch.setattr("service.labelling.journal.disk_reserve.RETRY_S", 0.0)
    assert reserve.take()
