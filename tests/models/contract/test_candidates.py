"""Candidates: their records, and the changes of state that are allowed."""

import itertools
from pathlib import Path
from typing import get_args

import pytest

from models.contract.bundle import BundleError, next_version
from models.contract.candidates import (
    CHANGES,
    FOLDER,
    RECORD,
    CandidateState,
    change_state,
    damaged_candidates,
    find_candidate,
    list_candidates,
    new_candidate,
    read_candidate,
)

SHA = "0" * 64


def made(folder: Path) -> Path:
    return new_candidate(folder, parent=1, parent_sha256=SHA, snapshot=None, who="ada")


def reached(folder: Path, state: CandidateState) -> Path:
    """A candidate in that state."""
    ways: dict[CandidateState, tuple[CandidateState, ...]] = {
        "training": (),
        "gated": ("gated",),
        "shadow": ("gated", "shadow"),
        "live": ("gated", "live"),
        "rejected": ("rejected",),
        "superseded": ("gated", "superseded"),
        "rolled_back": ("gated", "live", "rolled_back"),
    }
    candidate = made(folder)
    for step in ways[state]:
        change_state(candidate, step, who="ada", reason="a test")
    return candidate


def test_candidates_are_listed_by_age_and_are_no_versions(folder: Path) -> None:
    before = next_version(folder)
    names = [made(folder).name for _ in range(3)]
    assert [record.id for record in list_candidates(folder)] == names
    assert next_version(folder) == before
    assert not list_candidates(folder.parent / "other")


@pytest.mark.parametrize(("state", "to"), list(itertools.product(get_args(CandidateState), repeat=2)))
def test_a_change_of_state_that_is_not_in_the_table_is_refused_in_one_line(
    tmp_path: Path, state: CandidateState, to: CandidateState
) -> None:
    candidate = reached(tmp_path / "tiny", state)
    if to in CHANGES[state]:
        assert change_state(candidate, to, who="bob", reason="why", version=4).version == 4
        assert (read_candidate(candidate).state, read_candidate(candidate).who) == (to, "bob")
    else:
        with pytest.raises(BundleError, match=f"is {state} and cannot become {to}") as refused:
            change_state(candidate, to, who="bob", reason="why")
        assert "\n" not in str(refused.value)
        assert read_candidate(candidate).state == state


def test_a_damaged_candidate_is_named_and_hides_no_other(folder: Path) -> None:
    good, cut, other, lost = (made(folder) for _ in range(4))
    (cut / RECORD).write_text("{")
    (other / RECORD).write_bytes((good / RECORD).read_bytes())
    (lost / RECORD).rename(lost / "model.onnx")
    (folder / FOLDER / "nothing-yet").mkdir()  # a crash before the first record
    assert [record.id for record in list_candidates(folder)] == [good.name]
    said = damaged_candidates(folder)
    assert len(said) == 3
    for damaged in (cut, other, lost):
        assert any(damaged.name in line for line in said)
        with pytest.raises(BundleError, match=r"is damaged|is no candidate"):
            read_candidate(find_candidate(folder, damaged.name))


def test_a_name_that_leads_elsewhere_is_no_candidate(folder: Path) -> None:
    candidate = made(folder)
    assert find_candidate(folder, candidate.name) == candidate
    for name in ("../1", "", ".", "nothing"):
        with pytest.raises(BundleError, match="has no candidate"):
            find_candidate(folder, name)
