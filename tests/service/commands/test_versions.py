"""`losscast promote`, `rollback` and `history` against a real service."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import stamina

from models.contract.bundle import read_manifest
from models.contract.candidates import change_state, new_candidate
from models.contract.gate_report import GateReport, GateResult
from models.contract.index import ModelIndex, read_index, write_index
from tests.running import Service

Losscast = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def changing(publish_version: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on a store of its own, because the other command tests must not see its versions change."""
    folder = tmp_path_factory.mktemp("versions")
    for version in (1, 2, 3):
        publish_version(folder / "bundles", version)
    write_index(folder / "bundles/tiny", ModelIndex(live=1))
    service = Service(folder / "bundles", folder, LOSSCAST_POLL_S="0")
    service.start()
    yield service
    assert service.stop() == 0


@pytest.fixture
def store(changing: Service) -> Path:
    """Its store, with version 1 live, no history and no candidates."""
    folder = changing.store
    (folder / "tiny/history.ndjson").unlink(missing_ok=True)
    shutil.rmtree(folder / "tiny/candidates", ignore_errors=True)
    write_index(folder / "tiny", ModelIndex(live=1))
    assert changing.http.post("/v2/repository/models/tiny/load").status_code == 200
    return folder


@pytest.fixture
def run(losscast: Losscast, changing: Service, store: Path) -> Losscast:  # noqa: ARG001 - it brings the store back
    return lambda *arguments, **changes: losscast(*arguments, LOSSCAST_URL=str(changing.http.base_url), **changes)


def test_promote_rollback_and_history_tell_what_they_did(run: Losscast, store: Path) -> None:
    done = run("promote", "tiny", 2, "--reason", "fewer lossy images", "--who", "ada")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "tiny: version 2 is live; 1 is the previous version.",
        "Served by this replica, the only one known.",
    ]
    assert read_index(store / "tiny") == ModelIndex(live=2, previous=1)
    done = run("rollback", "tiny", "--reason", "it flags too much", LOSSCAST_WHO="bob")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny: version 1 is live; 2 is the previous version.\n")
    done = run("history", "tiny")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny: version 1 is live, 2 is the previous one. This replica serves 1.\n")
    rows = [line.split("│")[2:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["rolled back", "1", "2", "bob", "it flags too much"],
        ["promoted", "2", "1", "ada", "fewer lossy images"],
        ["live", "1", "", "unknown", "it was live when this history began"],
    ]


def test_json_is_one_change_a_line_newest_first(run: Losscast) -> None:
    promoted = json.loads(run("promote", "tiny", 3, "--reason", "a test", "--json").stdout)
    (mine,) = promoted.pop("replicas")
    assert (mine["version"], mine["serves"]) == ("3", True)
    told = {"model": "tiny", "live": "3", "previous": "1", "changed": True, "served": "3"}
    assert promoted == {**told, "complete": True, "unseen": None}
    lines = run("history", "tiny", "-n", 1, "--json").stdout.splitlines()
    assert [(json.loads(line)["event"], json.loads(line)["version"]) for line in lines] == [("promoted", "3")]


def test_a_second_rollback_needs_to(run: Losscast) -> None:
    run("promote", "tiny", 2, "--reason", "a test")
    run("rollback", "tiny", "--reason", "a test")
    refused = run("rollback", "tiny", "--reason", "a test")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("losscast: tiny was rolled back from version 2 to 1 already: name the version")
    done = run("rollback", "tiny", "--to", 3, "--reason", "a test")
    assert done.stdout.startswith("tiny: version 3 is live; 1 is the previous version.\n")


def test_a_version_on_probation_is_said_to_be(run: Losscast) -> None:
    run("promote", "tiny", 2, "--reason", "a test")
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30):
        with attempt:
            said = run("history", "tiny").stdout.splitlines()[1]
            assert said.startswith("It is on probation (0 of 2000 images so far, until ")
    assert said.endswith(" UTC): if it misbehaves, version 1 comes back.")


def test_a_version_that_is_live_already_is_said_to_be(run: Losscast) -> None:
    done = run("promote", "tiny", 1, "--reason", "a test")
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        "tiny: version 1 is live already; nothing was changed.",
    )


def test_a_model_without_changes_says_so(run: Losscast) -> None:
    assert run("history", "tiny").stdout.splitlines() == [
        "tiny: version 1 is live. This replica serves 1.",
        "No change has been recorded yet.",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("promote", "tiny", 9, "--reason", "a test"), "has no version 9: publish it first"),
        (("promote", "tiny", 2, "--reason", "a test", "--expected-live", 3), "version 1 of tiny is live, not 3"),
        (("promote", "other", 2, "--reason", "a test"), "the bundle store has no model 'other': it has tiny"),
        (("promote", "tiny", 2, "--reason", " "), "reason: String should have at least 1 character"),
        (("rollback", "tiny", "--reason", "a test"), "tiny has no previous version"),
        (("history", "other"), "the bundle store has no model 'other'"),
    ],
)
def test_errors_are_one_line(run: Losscast, store: Path, arguments: tuple[object, ...], line: str) -> None:
    refused = run(*arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("losscast: ")
    assert line in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert read_index(store / "tiny") == ModelIndex(live=1)


def test_a_reason_is_needed(run: Losscast) -> None:
    for arguments in (("promote", "tiny", 2), ("rollback", "tiny")):
        refused = run(*arguments)
        assert refused.returncode == 2
        assert "--reason" in refused.stderr


def test_candidates_are_a_table_and_a_model_without_any_says_so(run: Losscast, store: Path) -> None:
    assert run("candidates", "tiny").stdout == "tiny has no candidates: `losscast refine tiny` makes one.\n"
    made = new_candidate(store / "tiny", parent=1, parent_sha256="0" * 64, snapshot=None, who="ada")
    assert json.loads(run("candidates", "tiny", "--json").stdout)["id"] == made.name
    refused = run("promote", "tiny", made.name, "--reason", "a test")
    assert (refused.returncode, "is training and cannot be promoted" in refused.stderr) == (1, True)
    (made / "candidate.json").write_text("{")
    damaged = run("candidates", "tiny")
    assert (damaged.returncode, damaged.stdout, damaged.stderr.count("\n")) == (0, "", 1)
    assert f"{made.name}/candidate.json is damaged" in damaged.stderr


def test_a_candidate_that_failed_a_gate_is_promoted_only_by_override(run: Losscast, store: Path) -> None:
    folder = store / "tiny"
    live = read_manifest(folder / "1")
    made = new_candidate(folder, parent=1, parent_sha256=live.onnx_sha256, snapshot=None, who="ada")
    for file in ("model.onnx", "model_card.md"):
        shutil.copy(folder / "1" / file, made)
    (made / "manifest.json").write_bytes(live.model_copy(update={"version": "candidate"}).to_json())
    results = (GateResult(gate="gain", outcome="too_few_labels", sentence="It needs about 150 more audit labels."),)
    report = GateReport(candidate=made.name, parent=1, made_at="2026-12-01", attempt=1, results=results)
    (made / "gates.json").write_bytes(report.to_json())
    change_state(made, "gated", who="ada", reason="judged", passed=False)
    assert "not passed: gain (too few labels)" in run("candidates", "tiny", COLUMNS="160").stdout
    refused = run("promote", "tiny", made.name, "--reason", "a test")
    assert (refused.returncode, "did not pass: gain (too few labels)" in refused.stderr) == (1, True)
    done = run("promote", "tiny", made.name, "--reason", "a test", "--override")
    version = read_index(folder).live
    assert done.stdout.startswith(f"tiny: version {version} is live; 1 is the previous version.\n")
    assert made.name in run("history", "tiny", COLUMNS="160").stdout
