import asyncio
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from service.labelling.journal.errors import JournalBusy, JournalDamaged, JournalUnavailable
from service.labelling.journal.journal import Journal
from service.labelling.journal.table import Table
from service.labelling.samples.sample import Sample

MakeSample = Callable[..., Sample]

APPEND_UNTIL_KILLED = """
import asyncio, sys, time
from pathlib import Path
from service.labelling.journal.journal import Journal
from service.labelling.samples.sample import Sample, sample_id

async def main():
    journal = Journal.open(Path(sys.argv[1]), max_bytes=10**9, max_rows=10**6)
    async def append(worker):
        for n in range(10**6):
            image = f"{worker}/{n}".encode() * 200
            sample = Sample(sample_id("m", image), "m", "1", "image/png", (), 1, 1, 1, 1, None, time.time(), 64, 64)
            await journal.append(sample, image)
            print(sample.id, flush=True)
    await asyncio.gather(*(append(worker) for worker in range(4)))

asyncio.run(main())
"""


def opened(folder: Path, *, max_bytes: int = 2**30, max_rows: int = 10**6) -> Journal:
    return Journal.open(folder, max_bytes=max_bytes, max_rows=max_rows)


async def test_samples_come_back_oldest_first_and_survive_a_reopening(tmp_path: Path, make_sample: MakeSample) -> None:
    samples = [make_sample(f"image {n}") for n in range(5)]
    journal = opened(tmp_path)
    for n, sample in enumerate(samples):
        await journal.append(sample, f"image {n}".encode())
    await journal.close()
    journal = opened(tmp_path)
    entries = await journal.oldest(3)
    assert [entry.sample for entry in entries] == samples[:3]
    assert [entry.image for entry in entries] == [b"image 0", b"image 1", b"image 2"]
    assert [entry.sample for entry in await journal.oldest(9, after=entries[-1].row)] == samples[3:]
    assert journal.rows == 5
    assert journal.size_bytes == sum(len(sample.to_json()) + len(b"image 0") for sample in samples)
    await journal.close()


async def test_deleted_rows_are_gone_and_the_counters_follow(tmp_path: Path, make_sample: MakeSample) -> None:
    journal = opened(tmp_path)
    await asyncio.gather(*(journal.append(make_sample(f"{n}"), b"x") for n in range(600)))
    rows = [entry.row for entry in await journal.oldest(599)]
    await journal.delete(rows)
    await journal.delete(rows)
    (left,) = await journal.oldest(600)
    assert left.row not in rows
    assert journal.rows == 1
    assert journal.size_bytes == len(left.sample_json) + 1
    await journal.delete([left.row])
    assert (journal.rows, journal.size_bytes, journal.oldest_age_s) == (0, 0, 0.0)
    await journal.close()


async def test_appends_that_wait_together_share_commits(
    tmp_path: Path, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = 0
    transaction = Table.transaction

    def counted(table: Table) -> AbstractContextManager[None]:
        nonlocal commits
        commits += 1
        return transaction(table)

    monkeypatch.setattr(Table, "transaction", counted)
    journal = opened(tmp_path)
    await asyncio.gather(*(journal.append(make_sample(f"{n}"), b"x") for n in range(500)))
    assert journal.rows == 500
    assert commits < 100
    await journal.close()


async def test_a_sample_that_is_there_is_accepted_without_a_second_row(tmp_path: Path, make_sample: MakeSample) -> None:
    journal = opened(tmp_path, max_rows=1)
    await asyncio.gather(*(journal.append(make_sample("same"), b"same") for _ in range(3)))
    assert journal.rows == 1
    await journal.close()


async def test_an_audit_draw_takes_the_place_of_the_same_image_that_was_flagged(
    tmp_path: Path, make_sample: MakeSample
) -> None:
    journal = opened(tmp_path)
    flagged, drawn = make_sample("a"), make_sample("a", lane="audit", audit_probability=0.1)
    for sample in (flagged, drawn, flagged):
        await journal.append(sample, b"image")
    (entry,) = await journal.oldest(2)
    assert (entry.sample, entry.image) == (drawn, b"image")
    assert (journal.rows, journal.size_bytes) == (1, len(drawn.to_json()) + 5)
    await journal.close()


@pytest.mark.parametrize("bounds", [{"max_rows": 2}, {"max_bytes": 2_500}])
async def test_a_full_journal_says_so_and_takes_samples_again_when_there_is_room(
    tmp_path: Path, make_sample: MakeSample, bounds: dict[str, int]
) -> None:
    journal = opened(tmp_path, **bounds)
    results = await asyncio.gather(
        *(journal.append(make_sample(f"{n}"), b"x" * 800) for n in range(4)), return_exceptions=True
    )
    assert results[:2] == [None, None]
    assert all(isinstance(result, JournalUnavailable) and "is full" in str(result) for result in results[2:])
    await journal.delete([(await journal.oldest(1))[0].row])
    await journal.append(make_sample("2"), b"x" * 800)
    assert journal.rows == 2
    await journal.close()


async def test_a_closed_journal_refuses_and_has_committed_all_that_waited(
    tmp_path: Path, make_sample: MakeSample
) -> None:
    journal = opened(tmp_path)
    waiting = [asyncio.create_task(journal.append(make_sample(f"{n}"), b"x")) for n in range(20)]
    await asyncio.sleep(0)
    await journal.close()
    await asyncio.gather(*waiting)
    with pytest.raises(JournalUnavailable, match="closed"):
        await journal.append(make_sample("late"), b"x")
    with pytest.raises(JournalUnavailable):
        await journal.oldest(1)
    journal = opened(tmp_path)
    assert journal.rows == 20
    await journal.close()


async def test_the_loop_runs_on_while_the_disk_is_slow(tmp_path: Path, make_sample: MakeSample) -> None:
    journal = opened(tmp_path)
    blocker = sqlite3.connect(tmp_path / "journal.sqlite3", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    appending = asyncio.create_task(journal.append(make_sample("slow"), b"x"))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not appending.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    await appending
    await journal.close()


async def test_an_append_is_announced_even_if_its_caller_has_gone(tmp_path: Path, make_sample: MakeSample) -> None:
    journal = opened(tmp_path)
    appending = asyncio.create_task(journal.append(make_sample("gone"), b"x"))
    await asyncio.sleep(0)
    appending.cancel()
    async with asyncio.timeout(10):
        await journal.appended.wait()
    assert len(await journal.oldest(1)) == 1
    await journal.close()


async def test_a_sample_that_cannot_be_written_down_harms_no_other(tmp_path: Path, make_sample: MakeSample) -> None:
    journal = opened(tmp_path)
    with pytest.raises(TypeError):
        await journal.append(make_sample("bad", prediction=object()), b"x")
    await journal.append(make_sample("good"), b"x")
    assert journal.rows == 1
    await journal.close()


async def test_large_images_are_read_a_few_at_a_time(
    tmp_path: Path, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.labelling.journal.table.READ_BYTES", 1000)
    journal = opened(tmp_path)
    for n in range(5):
        await journal.append(make_sample(f"{n}"), b"x" * 2000)
    assert len(await journal.oldest(5)) == 2
    await journal.close()


async def test_a_second_owner_is_refused_in_this_process_and_in_another(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(JournalBusy, match="another process has the journal"):
        opened(tmp_path)
    program = (
        "import sys; from pathlib import Path; from service.labelling.journal.journal import Journal\n"
        "Journal.open(Path(sys.argv[1]), max_bytes=1, max_rows=1)"
    )
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", program, tmp_path, stderr=subprocess.PIPE)
    _, message = await other.communicate()
    assert b"JournalBusy" in message.splitlines()[-1]
    await journal.close()
    await opened(tmp_path).close()


def test_acknowledged_samples_survive_kill_9(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", APPEND_UNTIL_KILLED, tmp_path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _, line in zip(range(100), process.stdout, strict=False):
                acknowledged.add(line.strip())
            process.kill()
            acknowledged |= {line.strip() for line in process.stdout if len(line) == 33}
    kept = asyncio.run(_ids(tmp_path))
    assert len(acknowledged) >= 100
    assert acknowledged <= set(kept)
    assert len(kept) == len(set(kept))


async def _ids(folder: Path) -> list[str]:
    journal = opened(folder)
    ids = [entry.id for entry in await journal.oldest(10**6)]
    await journal.close()
    return ids


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Sets the size beyond which the system refuses to let a file of this process grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


async def test_a_disk_that_refuses_is_reported_and_used_again_once_it_accepts(
    tmp_path: Path, make_sample: MakeSample, file_size_limit: Callable[[int], None]
) -> None:
    journal = opened(tmp_path)
    await journal.append(make_sample("before"), b"x")
    file_size_limit(200_000)
    with pytest.raises(JournalUnavailable, match="cannot be written"):
        await journal.append(make_sample("refused"), b"x" * 400_000)
    assert journal.rows == 1
    file_size_limit(resource.RLIM_INFINITY)
    await journal.append(make_sample("after"), b"x" * 400_000)
    assert [entry.id for entry in await journal.oldest(9)] == [make_sample("before").id, make_sample("after").id]
    await journal.close()


@pytest.mark.parametrize("content", [b"not a database, whatever its name" * 200, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_named_at_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(content)
    with pytest.raises(JournalDamaged, match=r"journal\.sqlite3 is damaged"):
        opened(tmp_path)
    (tmp_path / "journal.sqlite3").unlink()
    asyncio.run(opened(tmp_path).close())


async def test_a_file_damaged_inside_is_named_at_the_start(tmp_path: Path, make_sample: MakeSample) -> None:
    journal = opened(tmp_path)
    for n in range(50):
        await journal.append(make_sample(f"{n}"), b"x" * 3000)
    await journal.close()
    path = tmp_path / "journal.sqlite3"
    data = bytearray(path.read_bytes())
    data[8192:40960] = b"\xee" * (40960 - 8192)
    path.write_bytes(data)
    with pytest.raises(JournalDamaged, match="move it away"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnavailable, match="no journal can be kept in"):
        opened(tmp_path / "file" / "journal")
