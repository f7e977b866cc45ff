"""`losscast history --erased` and `--sample`, on a service whose versions have learned from samples."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from models.contract.index import ModelIndex, write_index
from service.client import LosscastClient
from tests.running import Service

Losscast = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def taught(publish_version: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Version 2 is live."""
    folder = tmp_path_factory.mktemp("learned")
    for version in (1, 2, 3):
        publish_version(folder / "bundles", version)
    write_index(folder / "bundles/tiny", ModelIndex(live=2, previous=1))
    service = Service(folder / "bundles", folder, LOSSCAST_POLL_S="0")
    service.start()
    yield service
    assert service.stop() == 0


@pytest.fixture
def run(losscast: Losscast, taught: Service) -> Losscast:
    return lambda *arguments: losscast(*arguments, LOSSCAST_URL=str(taught.http.base_url))


@pytest.fixture
def samples(taught: Service, grey: Callable[..., bytes]) -> list[str]:
    """Three labelled samples. Versions 2 and 3 learned from the first two, and 3 from all; the first is erased."""
    with LosscastClient(str(taught.http.base_url)) as client:
        before = client.stats()["accepted"]
        made = [client.predict(grey(0.9, tag=tag)).sample_id for tag in range(before, before + 3)]
        taught.settled(before + 3)
        for sample in client.lease(3, annotator="ada").samples:
            client.label(sample, [[1, 2], [3, 4]])
        for version, known in ((2, made[:2]), (3, made)):
            (taught.store / "tiny" / str(version) / "learned.txt").write_text("".join(f"{one}\n" for one in known))
        client.erase(made[0])
    return made


def test_versions_that_learned_from_erased_samples_are_named(run: Losscast, samples: list[str]) -> None:
    done = run("history", "tiny", "--erased")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"Version 2 (live) learned from 2 samples; 1 of them was erased since: {samples[0]}.",
        f"Version 3 learned from 3 samples; 1 of them was erased since: {samples[0]}.",
    ]
    lines = [json.loads(line) for line in run("history", "tiny", "--erased", "--json").stdout.splitlines()]
    assert lines == [
        {"version": "2", "live": True, "erased": [samples[0]]},
        {"version": "3", "live": False, "erased": [samples[0]]},
    ]


def test_the_versions_that_learned_from_one_sample_are_named(run: Losscast, samples: list[str]) -> None:
    assert run("history", "tiny", "--sample", samples[0]).stdout == (
        f"{samples[0]} taught version 2 (live), version 3 of tiny.\n"
    )
    assert run("history", "tiny", "--sample", samples[2]).stdout == f"{samples[2]} taught version 3 of tiny.\n"
    assert run("history", "tiny", "--sample", "nobody").stdout == "No version of tiny has learned from nobody.\n"


def test_pages_have_all_ids_and_a_version_without_labels_has_none(taught: Service, samples: list[str]) -> None:
    with LosscastClient(str(taught.http.base_url)) as client:
        pages = [client.learned_page("tiny", 3, start, 2).sample_ids for start in (0, 2, 4)]
        assert pages == [samples[:2], samples[2:], []]
        assert client.learned_page("tiny", 1).samples == 0


def test_a_damaged_list_is_said_to_be(run: Losscast, taught: Service, samples: list[str]) -> None:
    assert samples
    (taught.store / "tiny/3/learned.txt").write_bytes(b"\xff\xfe")
    refused = run("history", "tiny", "--erased")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "learned.txt cannot be read" in refused.stderr


def test_a_model_that_learned_from_no_labels_says_so(run: Losscast, taught: Service) -> None:
    for path in Path(taught.store / "tiny").glob("*/learned.txt"):
        path.unlink()
    assert run("history", "tiny", "--erased").stdout == "No version of tiny has learned from labels.\n"
