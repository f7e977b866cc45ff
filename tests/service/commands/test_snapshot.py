"""`losscast snapshot` on a real service: labels become a folder, and an erased sample is not in it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from models.contract.snapshot import read_snapshot
from service.client import LosscastClient

Losscast = Callable[..., "subprocess.CompletedProcess[str]"]


def test_labels_become_a_snapshot_and_erased_samples_are_not_in_it(
    losscast: Losscast, queued: Callable[[int], list[str]], client: LosscastClient, tmp_path: Path
) -> None:
    queued(4)
    leased = client.lease(4, annotator="ada").samples
    for sample in leased:
        client.label(sample, [[1, 2], [3, 4]])
    erased, *left = (sample.sample_id for sample in leased)
    client.erase(erased)

    done = losscast("snapshot", "tiny", "--out", tmp_path / "one")

    assert (done.returncode, done.stderr) == (0, "")
    snapshot, rows = read_snapshot(tmp_path / "one")
    assert snapshot.rejected_audits == client.stats()["rejected_audit"]
    found = {row.sample_id: row for row in rows}
    assert erased not in found
    assert set(left) <= found.keys()
    assert found[left[0]].label == [[1.0, 2.0], [3.0, 4.0]]
    assert (tmp_path / "one" / "images" / left[0]).read_bytes() == client.image(left[0])
    assert f"{len(rows)} labelled samples" in done.stdout


def test_what_goes_wrong_is_one_line(losscast: Losscast, tmp_path: Path) -> None:
    unknown = losscast("snapshot", "nothing", "--out", tmp_path / "one")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "there is no model 'nothing'" in unknown.stderr
    there = losscast("snapshot", "tiny", "--out", tmp_path)
    assert (there.returncode, there.stderr.count("\n")) == (1, 1)
    assert "choose another folder" in there.stderr
