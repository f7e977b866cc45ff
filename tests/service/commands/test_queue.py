import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.client import LosscastClient

pytestmark = pytest.mark.xdist_group("commands")

Losscast = Callable[..., "subprocess.CompletedProcess[str]"]
Queued = Callable[[int], list[str]]


def fill_in(path: Path, label: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "label": label}))


def lines(result: "subprocess.CompletedProcess[str]") -> list[str]:
    assert result.stderr == ""
    return result.stdout.splitlines()


def one_line(result: "subprocess.CompletedProcess[str]") -> str:
    """The error of a command that failed."""
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("losscast: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_samples_go_out_to_a_folder_and_labels_come_back_from_it(
    losscast: Losscast, queued: Queued, client: LosscastClient, tmp_path: Path
) -> None:
    ids = sorted(queued(4))
    folder = tmp_path / "todo"
    said = lines(losscast("queue", "lease", "-n", "4", "--out", folder))
    assert said == [
        f"4 samples are in {folder}: fill in `label` in each JSON, then losscast queue label --from {folder}"
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [f"{one}.{kind}" for one in ids for kind in ("json", "png")]
    )
    by_name, by_list, spoiled, empty = (folder / f"{one}.json" for one in ids)
    fields = json.loads(by_name.read_text())
    assert fields["prediction"] == {"a": [2.0, 2.0], "b": [6.0, 6.0]}
    assert fields["label"] is None
    assert (folder / fields["image"]).read_bytes() == client.image(ids[0])
    fill_in(by_name, {"b": None, "a": [1, 2]})
    fill_in(by_list, [[1, 2], [3, 4]])
    fill_in(spoiled, [[1, 2]])
    before = {path: path.read_bytes() for path in folder.iterdir()}

    sent = losscast("queue", "label", "--from", folder)
    assert sent.returncode == 1
    assert lines(sent) == [
        f"{by_name.name}: labelled",
        f"{by_list.name}: labelled",
        f"{spoiled.name}: refused: 2 values are needed (a, b), 1 came",
        "2 labelled, 0 already labelled, 1 refused, 1 not filled in",
    ]
    fill_in(spoiled, [[5, 6], None])
    again = losscast("queue", "label", "--from", folder)
    assert again.returncode == 0
    assert lines(again)[-1] == "1 labelled, 2 already labelled, 0 refused, 1 not filled in"
    assert {path: path.read_bytes() for path in folder.iterdir() if path != spoiled} == {
        path: content for path, content in before.items() if path != spoiled
    }
    labels = {line.sample_id: line for line in client.labels()}
    assert [labels[one].label.values for one in ids[:3]] == [[[1, 2], None], [[1, 2], [3, 4]], [[5, 6], None]]
    assert empty.stem not in labels


def test_the_same_token_fills_the_folder_again_and_keeps_the_labels_in_it(
    losscast: Losscast, queued: Queued, tmp_path: Path
) -> None:
    (sample_id,) = queued(1)
    lease = ["queue", "lease", "--token", sample_id, "--out", tmp_path]
    assert lines(losscast(*lease))[0].startswith(f"1 sample is in {tmp_path}: fill in ")
    fill_in(tmp_path / f"{sample_id}.json", [[1, 2], [3, 4]])
    (tmp_path / f"{sample_id}.png").unlink()
    assert losscast(*lease).returncode == 0
    assert (tmp_path / f"{sample_id}.png").exists()
    assert json.loads((tmp_path / f"{sample_id}.json").read_text())["label"] == [[1, 2], [3, 4]]


def test_files_that_are_none_of_ours_are_refused_and_the_others_sent(
    losscast: Losscast, queued: Queued, tmp_path: Path
) -> None:
    (sample_id,) = queued(1)
    losscast("queue", "lease", "--out", tmp_path)
    fill_in(tmp_path / f"{sample_id}.json", [[1, 2], [3, 4]])
    (tmp_path / "0.json").write_text("[1, 2")
    (tmp_path / "00.json").write_text('{"label": [[1, 2], [3, 4]]}')
    said = lines(losscast("queue", "label", "--from", tmp_path))
    assert said[0].startswith("0.json: refused: 0.json is not JSON")
    assert said[1].startswith("00.json: refused: 00.json is not a file of `losscast queue lease --out`")
    assert said[-1] == "1 labelled, 0 already labelled, 2 refused, 0 not filled in"


def test_skip_and_reject_take_the_files_of_a_lease(
    losscast: Losscast, queued: Queued, client: LosscastClient, tmp_path: Path
) -> None:
    first, second = sorted(queued(2))
    losscast("queue", "lease", "-n", "2", "--out", tmp_path)
    assert lines(losscast("queue", "skip", tmp_path / f"{first}.json")) == [f"{first} is skipped."]
    rejected = losscast("queue", "reject", tmp_path / f"{second}.json", "--reason", "blurred")
    assert lines(rejected) == [f"{second} is rejected."]
    assert client.lease(2, annotator="ada").samples == []
    assert [sample.sample_id for sample in client.lease(2, annotator="bob").samples] == [first]


def test_one_sample_is_leased_and_labelled_without_files(losscast: Losscast, queued: Queued) -> None:
    (sample_id,) = queued(1)
    leased = losscast("queue", "lease", "--token", "mine", "--json")
    assert json.loads(leased.stdout)["sample_id"] == sample_id
    refused = losscast("queue", "label", sample_id, "[[1, 2]]")
    assert one_line(refused) == "losscast: 2 values are needed (a, b), 1 came\n"
    label = ["queue", "label", sample_id, "[[1, 2], null]", "--token", "mine"]
    assert lines(losscast(*label)) == [f"{sample_id} is labelled."]
    assert lines(losscast(*label)) == [f"{sample_id} already has this label."]


def test_erase_asks_first_and_then_removes(losscast: Losscast, queued: Queued, client: LosscastClient) -> None:
    (sample_id,) = queued(1)
    assert losscast("queue", "erase", sample_id).returncode == 1
    assert client.sample(sample_id).sample_id == sample_id
    assert client.erase(sample_id).erased  # waits until it may be erased
    assert lines(losscast("queue", "erase", sample_id, "--yes")) == [f"{sample_id} is erased."]
    unknown = "0" * 32
    assert lines(losscast("queue", "erase", unknown, "--yes")) == [
        f"{unknown} is not known: there is nothing to erase."
    ]


def test_requeue_says_how_many_came_back(losscast: Losscast) -> None:
    assert lines(losscast("queue", "requeue")) == ["0 samples are pending again."]


def test_labels_are_written_as_lines_or_as_one_coco_document(
    losscast: Losscast, queued: Queued, client: LosscastClient, tmp_path: Path
) -> None:
    ids = queued(2)
    for sample in client.lease(2, annotator="ada").samples:
        client.label(sample, [[1, 2], [3, 4]])
    printed = [json.loads(line) for line in lines(losscast("queue", "labels"))]
    assert set(ids) <= {line["sample_id"] for line in printed}
    out = tmp_path / "labels.json"
    said = lines(losscast("queue", "labels", "--format", "coco", "--out", out))
    coco = json.loads(out.read_text())
    assert said == [f"{len(printed)} labels are in {out}."]
    assert [image["file_name"] for image in coco["images"]] == [f"{line['sample_id']}.png" for line in printed]
    assert len(coco["annotations"]) == len(printed)
    assert list(tmp_path.iterdir()) == [out]


def test_labels_that_cannot_be_had_leave_the_file_as_it_was(losscast: Losscast, tmp_path: Path) -> None:
    out = tmp_path / "labels.ndjson"
    out.write_text("precious")
    assert "is `losscast serve` running" in one_line(
        losscast("queue", "labels", "--out", out, "--url", "http://127.0.0.1:1")
    )
    assert {path: path.read_text() for path in tmp_path.iterdir()} == {out: "precious"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "--url", "http://127.0.0.1:1"], "is `losscast serve` running there?"),
        (["stats", "--url", "localhost:8000"], "write it like http://127.0.0.1:8000"),
        (["label", "x", "[1"], "the values are not JSON"),
        (["label", "x", "3"], "must be a JSON list"),
        (["label", "x"], "give a sample, its values and --annotator"),
        (["label", "x", "[]", "--from", "."], "give either a sample and its values, or --from"),
        (["skip", "x"], "no sample x"),
        (["skip", "nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["reject", "x", "--reason", ""], "reason: String should have at least 1 character"),
        (["lease", "--model", "pose"], "there is no model 'pose': known here are tiny"),
        (["labels", "--out", "/nowhere/labels"], "/nowhere/labels cannot be written: No such file or directory"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(losscast: Losscast, arguments: list[str], message: str) -> None:
    assert message in one_line(losscast("queue", *arguments))


def test_help_names_every_command_and_shows_how_they_are_used(losscast: Losscast) -> None:
    commands = ("stats", "lease", "label", "skip", "reject", "labels", "requeue", "erase")
    overview = losscast("queue", "--help").stdout
    for command in commands:
        assert command in overview
        if command != "stats":
            assert f"Example: losscast queue {command}" in losscast("queue", command, "--help").stdout
